// Calls of every kind by @grpc/grpc-js, to a server that echoes: node grpcjs.js HOST:PORT. It prints what it got, a line
// of JSON for each.
const grpc = require('@grpc/grpc-js');

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const same = (b) => b;
const soon = () => ({ deadline: Date.now() + 10000 });
const say = (name, what) => console.log(JSON.stringify({ name, ...what }));
const failed = (err) => ({ code: grpc.status[err.code], details: err.details });

function metadata(pairs) {
  const m = new grpc.Metadata();
  for (const [k, v] of Object.entries(pairs)) m.add(k, v);
  return m;
}

const unary = (name, method, message, pairs, options) => new Promise((done) => {
  let head, status;
  const call = client.makeUnaryRequest(method, same, same, Buffer.from(message), metadata(pairs), options || soon(), (err, answer) => {
    if (err) say(name, failed(err));
    else setImmediate(() => say(name, { size: answer.length, same: answer.toString() === message, head: head.get('echo-a'), trailer: status.metadata.get('echo-trailer-b'), variant: head.get('x-weir-variant') }));
    setImmediate(done);
  });
  call.on('metadata', (m) => { head = m; });
  call.on('status', (s) => { status = s; });
});

// both ways: each message is sent when the one before has come back.
const duplex = (name, messages) => new Promise((done) => {
  const got = [];
  const call = client.makeBidiStreamRequest('/test.Echo/Both', same, same, metadata({}), soon());
  call.on('data', (m) => {
    got.push(m.length);
    if (got.length < messages.length) call.write(Buffer.from(messages[got.length]));
    else call.end();
  });
  call.on('error', () => {});
  call.on('status', (s) => { say(name, { code: grpc.status[s.code], got }); done(); });
  call.write(Buffer.from(messages[0]));
});

const down = (name, method, ends) => new Promise((done) => {
  const got = [];
  const call = client.makeServerStreamRequest(method, same, same, Buffer.from('down'), metadata({}), soon());
  call.on('data', (m) => { got.push(m.toString()); if (ends) call.cancel(); });
  call.on('error', () => {});
  call.on('status', (s) => { say(name, { code: grpc.status[s.code], got: ends ? undefined : got }); done(); });
});

const up = (name, messages) => new Promise((done) => {
  const call = client.makeClientStreamRequest('/test.Echo/Up', same, same, metadata({}), soon(), (err, answer) => {
    say(name, err ? failed(err) : { answer: answer.toString() });
    done();
  });
  for (const m of messages) call.write(Buffer.from(m));
  call.end();
});

(async () => {
  await unary('unary', '/test.Echo/Unary', 'one', { 'echo-a': '1', 'echo-trailer-b': '2' });
  await unary('large', '/test.Echo/Unary', 'x'.repeat(3 << 20), {});
  await unary('status', '/test.Echo/NotFound', 'm', {});
  await unary('deadline', '/test.Echo/Hang', 'm', {}, { deadline: Date.now() + 200 });
  await unary('refused', '/no.Route/Any', 'm', {});
  await duplex('duplex', ['a', 'bb', 'c'.repeat(100000), 'dddd']);
  await down('down', '/test.Echo/Down');
  await down('canceled', '/test.Echo/Endless', true);
  await up('up', ['a', 'b', 'c']);
  await Promise.all(Array.from({ length: 50 }, (_, i) => unary('many', '/test.Echo/Unary', 'm'.repeat(i * 100), {})));
  client.close();
})();
