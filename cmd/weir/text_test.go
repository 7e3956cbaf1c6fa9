package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
)

func exampleStatus() proxy.Status {
	ms := func(v float64) *float64 { return &v }
	return proxy.Status{
		Version: "v1.2.3", Generation: 7, Uptime: 7384.2, Degraded: true, Connections: 1,
		Reasons: []string{"pool green: endpoint 127.0.0.1:8003 is not healthy: /health/ready answered 404"},
		Routes: []proxy.RouteStatus{{
			Name: "predict", Match: "/predict POST", Generation: 7, Overlay: true,
			Variants: []proxy.VariantStatus{
				{Pool: "blue", Version: "v1.0.0", Weight: 99.5, Share: 0.99478, Usable: true, Requests: 123456, Errors: 2, P50: ms(1.24), P95: ms(3.5), P99: ms(12)},
				{Pool: "green", Version: "v2.0.0", Weight: 0.5, Share: 0.00522},
			},
		}},
		Pools: []proxy.PoolStatus{
			{Name: "blue", Policy: "least_request", Endpoints: []proxy.EndpointStatus{
				{Address: "127.0.0.1:8001", Weight: 1, EffectiveWeight: 1, Inflight: 3, Connections: 4, Healthy: true, Requests: 100000, Errors: 2},
				{Address: "127.0.0.1:8002", Weight: 2, EffectiveWeight: 2, Healthy: true, Draining: true},
			}},
			{Name: "green", Policy: "random", Endpoints: []proxy.EndpointStatus{
				{Address: "127.0.0.1:8003", Weight: 1, Probe: "/health/ready answered 404"},
				{Address: "127.0.0.1:8004", Weight: 1, Healthy: true, Ejected: true},
			}},
		},
	}
}

const exampleText = `weir v1.2.3  degraded  generation 7  up 2h3m4s  1 connection
  pool green: endpoint 127.0.0.1:8003 is not healthy: /health/ready answered 404

ROUTE    MATCH          VARIANT  VERSION  WEIGHT  EXPECTED   SHARE  REQUESTS  ERRORS    P50    P95     P99  STATE
predict  /predict POST  blue     v1.0.0     99.5    99.50%  99.48%    123456       2  1.2ms  3.5ms  12.0ms  usable
                        green    v2.0.0      0.5     0.50%   0.52%         0       0      -      -       -  no usable endpoint
predict: the weights were set through the API, over those of the file

POOL   POLICY         ENDPOINT        WEIGHT  EFFECTIVE  INFLIGHT  CONNECTIONS  REQUESTS  ERRORS  STATE
blue   least_request  127.0.0.1:8001       1          1         3            4    100000       2  healthy
                      127.0.0.1:8002       2          2         0            0         0       0  draining
green  random         127.0.0.1:8003       1          0         0            0         0       0  unhealthy: /health/ready answered 404
                      127.0.0.1:8004       1          0         0            0         0       0  ejected
`

func TestStatusText(t *testing.T) {
	var out bytes.Buffer
	writeStatus(&out, exampleStatus(), false)
	if diff := cmp.Diff(exampleText, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	writeStatus(&out, exampleStatus(), true)
	if !strings.Contains(out.String(), "\x1b[31mdegraded\x1b[0m") {
		t.Errorf("no colour: %q", out.String())
	}
}

func TestTableCleansCells(t *testing.T) {
	var out bytes.Buffer
	table := newTable("NAME", ">N")
	table.row("größe\x1b[2J\r\n", "1")
	table.write(&out)
	if diff := cmp.Diff("NAME         N\ngröße·[2J··  1\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestYAMLSaysTheSameAsJSON(t *testing.T) {
	in := json.RawMessage(`{"z":{"text":"true","number":"12","empty":"","colon":"a: b","lines":"a\nb","null":null,"list":[1,0.5,[]]},"a":"last"}`)
	var out bytes.Buffer
	if err := writeYAML(&out, in); err != nil {
		t.Fatal(err)
	}
	want := `z:
  text: 'true'
  number: '12'
  empty: ''
  colon: 'a: b'
  lines: |-
    a
    b
  'null': null
  list:
  - 1
  - 0.5
  - []
a: last
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAdminAddress(t *testing.T) {
	for _, tt := range []struct{ flag, env, want string }{
		{"", "", defaultAdmin},
		{"", "10.0.0.1:9901", "http://10.0.0.1:9901"},
		{"http://[::1]:1/", "10.0.0.1:9901", "http://[::1]:1"},
		{"https://weir.example.com", "", "https://weir.example.com"},
		{"weir.example.com:1/prefix/", "", "http://weir.example.com:1/prefix"},
	} {
		c := newCLI(nil, nil, func(name string) string { return map[string]string{"WEIR_ADMIN": tt.env}[name] })
		c.admin = tt.flag
		api, err := c.client()
		if err != nil {
			t.Error(err)
		} else if api.base != tt.want {
			t.Errorf("--admin %q, WEIR_ADMIN %q: %s, want %s", tt.flag, tt.env, api.base, tt.want)
		}
	}
}
