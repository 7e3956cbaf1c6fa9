// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package docker_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// standIns is a folder of programs that stand in for others on the PATH, and the folder's state.
type standIns struct {
	t      *testing.T
	folder string
}

// newStandIns puts scripts into a folder, by the name of the program. Each finds the folder in $STAND.
func newStandIns(t *testing.T, scripts map[string]string) *standIns {
	t.Helper()
	s := &standIns{t: t, folder: t.TempDir()}
	for name, script := range scripts {
		s.write(name, "#!/bin/bash\nset -u\n"+script)
		if err := os.Chmod(filepath.Join(s.folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *standIns) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// read returns a file of the folder, "" when it is not there.
func (s *standIns) read(name string) string {
	text, err := os.ReadFile(filepath.Join(s.folder, name))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(text)
}

// run runs a script of this folder with the stand-ins first on the PATH.
func (s *standIns) run(env []string, script string, args ...string) (output string, status int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), script, args...)
	cmd.Env = append(os.Environ(), append([]string{"PATH=" + s.folder + ":" + os.Getenv("PATH"), "STAND=" + s.folder}, env...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// swarm stands in for docker service: replicas and update hold what inspect tells; scale changes and notes it.
const swarm = `
case "$1 $2" in
"service inspect")
	[ "${*: -1}" = ml_ml-api ] || { echo "no such service: ${*: -1}" >&2; exit 1; }
	echo "$(cat $STAND/replicas) $(cat $STAND/update 2>/dev/null)" ;;
"service scale")
	[ ! -e $STAND/refuse ] || { echo "refused" >&2; exit 1; }
	case "${*: -1}" in ml_ml-api=*) ;; *) exit 1 ;; esac
	n=${*: -1}; echo "${n#*=}" >$STAND/replicas; echo "$(cat $STAND/clock) ${n#*=}" >>$STAND/scaled ;;
*) echo "unknown: docker $*" >&2; exit 1 ;;
esac`

// clock is a time that passes by sleeping only. The loop ends when the script of desired numbers does.
const clock = `
if [ "$(basename $0)" = date ]; then cat $STAND/clock; exit; fi
echo $(($(cat $STAND/clock) + $1)) >$STAND/clock
tail -n +2 $STAND/wanted >$STAND/rest; mv $STAND/rest $STAND/wanted
[ -s $STAND/wanted ] || kill -TERM $PPID`

// TestAutoscale gives the loop an answer of weir a look, and compares what it did at which second.
func TestAutoscale(t *testing.T) {
	const token = "a-token-of-sixteen"
	for _, test := range []struct {
		name     string
		replicas string
		wanted   []string // answers, one a look; looks are 15 s apart, from second 1000 on
		update   string
		env      []string
		scaled   string
		says     string
	}{
		{name: "up at once, to where weir says", replicas: "3", wanted: []string{"7"}, scaled: "1000 7\n"},
		{name: "nothing to do", replicas: "3", wanted: []string{"3", "3"}, scaled: ""},
		{name: "at most ten", replicas: "3", wanted: []string{"99"}, scaled: "1000 10\n"},
		{name: "at least two", replicas: "3", wanted: []string{"0"}, scaled: "1000 2\n"},
		{name: "cooldown: the next change comes a minute later", replicas: "3", wanted: []string{"4", "5", "5", "5", "5", "6"}, scaled: "1000 4\n1060 5\n",
			says: "the last change is 15 s ago, of 60 s"},
		{name: "a changed mind in the cooldown", replicas: "3", wanted: []string{"4", "9", "9", "4", "4", "4"}, scaled: "1000 4\n"},
		{name: "another cooldown", replicas: "3", wanted: []string{"4", "5", "6"}, env: []string{"COOLDOWN=15"}, scaled: "1000 4\n1015 5\n1030 6\n"},
		{name: "the pool has no target", replicas: "3", wanted: []string{"null"}, scaled: "", says: "does it have the key scale?"},
		{name: "an answer that is none", replicas: "9", wanted: []string{"-1", "2.5", "\"2\"", "99999999"}, scaled: ""},
		{name: "weir is away for a while", replicas: "9", wanted: []string{"down", "9", "down", "8"}, scaled: "1045 8\n", says: "was not to be asked"},
		{name: "an update under way", replicas: "3", wanted: []string{"7"}, update: "updating", scaled: "", says: "an update is under way"},
		{name: "a rollback under way", replicas: "3", wanted: []string{"7"}, update: "rollback_started", scaled: "", says: "an update is under way"},
		{name: "an update that is over", replicas: "3", wanted: []string{"7"}, update: "completed", scaled: "1000 7\n"},
		{name: "a service without replicas", replicas: "", wanted: []string{"7"}, scaled: "", says: "has no number of replicas"},
		{name: "another service", replicas: "3", wanted: []string{"7"}, env: []string{"SERVICE=other"}, scaled: "", says: "was not to be looked at"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIns(t, map[string]string{"docker": swarm, "date": clock, "sleep": clock})
			s.write("clock", "1000\n")
			s.write("replicas", test.replicas+"\n")
			s.write("wanted", strings.Join(test.wanted, "\n")+"\n")
			s.write("token", token+"\n")
			if test.update != "" {
				s.write("update", test.update+"\n")
			}
			weir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				want, _, _ := strings.Cut(s.read("wanted"), "\n")
				if r.URL.Path != "/api/v1/scale/ml-api" || r.Header.Get("Authorization") != "Bearer "+token || want == "down" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				fmt.Fprintf(w, `{"pool": "ml-api", "replicas": 3, "utilization": 0.81, "desired_replicas": %s, "reason": "2 desired"}`+"\n", want)
			}))
			defer weir.Close()
			out, _ := s.run(append([]string{"WEIR_ADMIN=" + weir.URL, "TOKEN_FILE=" + s.folder + "/token"}, test.env...), "swarm/autoscale.sh")
			if got := s.read("scaled"); got != test.scaled {
				t.Errorf("it scaled %q, want %q\n%s", got, test.scaled, out)
			}
			if !strings.Contains(out, test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, out)
			}
			if strings.Contains(out, token) {
				t.Errorf("it tells the token:\n%s", out)
			}
		})
	}
}

// TestAutoscaleOnce: a single look, and its exit status; with wget, where there is no curl; and wrong settings.
func TestAutoscaleOnce(t *testing.T) {
	wget := `
[ "$*" = "-q -T 10 -O - --header Authorization: Bearer sixteen-characters http://weir:9901/api/v1/scale/ml-api" ] || { echo "wget $*" >&2; exit 1; }
cat $STAND/answer`
	fresh := func(answer string) *standIns {
		s := newStandIns(t, map[string]string{"docker": swarm, "wget": wget, "date": clock})
		s.write("clock", "1000\n")
		s.write("replicas", "3\n")
		s.write("answer", answer)
		s.write("token", "sixteen-characters")
		for _, name := range []string{"sh", "sed", "tr", "cat", "basename", "bash"} { // and no curl
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(s.folder, name)); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	for _, test := range []struct {
		answer string
		env    string
		args   []string
		status int
		scaled string
		says   string
	}{
		{`{"desired_replicas":5}`, "A=", []string{"--once"}, 0, "1000 5\n", "from 3 replicas to 5"},
		{`{"desired_replicas":3}`, "A=", []string{"--once"}, 0, "", ""},
		{`{"desired_replicas":null}`, "A=", []string{"--once"}, 1, "", "nothing is changed"},
		{``, "A=", []string{"--once"}, 1, "", "nothing is changed"},
		{`{"desired_replicas":5}`, "TOKEN_FILE=/no/such/file", []string{"--once"}, 1, "", "was not to be asked"},
		{`{"desired_replicas":5}`, "MAX_REPLICAS=1", []string{"--once"}, 2, "", "at most MAX_REPLICAS=1"},
		{`{"desired_replicas":5}`, "MIN_REPLICAS=0", []string{"--once"}, 2, "", "at least 1"},
		{`{"desired_replicas":5}`, "COOLDOWN=1m", []string{"--once"}, 2, "", "COOLDOWN=1m is no whole number"},
		{`{"desired_replicas":5}`, "A=", []string{"--twice"}, 2, "", "usage"},
	} {
		s := fresh(test.answer)
		out, status := s.run([]string{"PATH=" + s.folder, "WEIR_ADMIN=http://weir:9901", "TOKEN_FILE=" + s.folder + "/token", test.env}, "swarm/autoscale.sh", test.args...)
		if status != test.status || s.read("scaled") != test.scaled || !strings.Contains(out, test.says) {
			t.Errorf("%s %s %v: status %d, scaled %q, want %d, %q and %q:\n%s", test.answer, test.env, test.args, status, s.read("scaled"), test.status, test.scaled, test.says, out)
		}
	}
	s := fresh(`{"desired_replicas":5}`)
	s.write("refuse", "")
	if out, status := s.run([]string{"PATH=" + s.folder, "WEIR_ADMIN=http://weir:9901", "TOKEN_FILE=" + s.folder + "/token"}, "swarm/autoscale.sh", "--once"); status != 1 || !strings.Contains(out, "was not scaled") {
		t.Errorf("a scale that is refused: status %d\n%s", status, out)
	}
}
