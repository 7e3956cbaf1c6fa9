// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package docker_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// engine stands in for docker: containers are lines of a file, ID IMAGE STATUS HEALTH. After each command it notes how
// many containers could serve, and every command is in the log.
const engine = `
echo "$*" >>$STAND/log
image() { echo "ghcr.io/weir-proxy/weir-backend:${VERSION:-$(sed -n s/^VERSION=//p $STAND/.env 2>/dev/null)}"; }
start() { n=$(($(cat $STAND/next) + 1)); echo $n >$STAND/next; echo "c$n $(image) running $(cat $STAND/health)" >>$STAND/containers; }
finish() { grep -c ' running healthy$' $STAND/containers >>$STAND/serving; exit "${1:-0}"; }
case "$*" in
"compose -f $STAND/compose.yaml config --images ml-api") image ;;
"compose -f $STAND/compose.yaml config") echo "resolved with $(image)" ;;
"compose -f $STAND/compose.yaml ps --quiet ml-api") sed -n 's/^\(c[0-9]*\) .* running .*/\1/p' $STAND/containers ;;
"compose -f $STAND/compose.yaml ps --all --quiet ml-api") cut -d' ' -f1 $STAND/containers ;;
"compose -f $STAND/compose.yaml up --detach --no-deps --no-build --no-recreate --scale ml-api="*" ml-api")
	all=$*; want=${all#*ml-api=}; want=${want% ml-api}
	while [ $(wc -l <$STAND/containers) -lt $want ]; do start; done ;;
"compose -f $STAND/compose.yaml up --detach --no-deps --no-build ml-api")
	: >$STAND/containers; start ;;
"compose -f $STAND/compose.yaml exec -T weir /weir "*)
	[ ! -e $STAND/weir-refuses ] || { echo "refused" >&2; finish 1; }
	echo "$8 ${*:9}" >>$STAND/weir ;;
"inspect --format {{.Config.Image}} "*) sed -n "s/^${*: -1} \([^ ]*\) .*/\1/p" $STAND/containers ;;
"inspect --format {{.State.Status}} "*)
	sed -n "s/^${*: -1} [^ ]* \(.*\)/\1/p" $STAND/containers
	sed -i "s/^\(${*: -1} .*\) starting$/\1 healthy/" $STAND/containers ;;    # at the next look
"image inspect "*) grep -qxF "${*: -1}" $STAND/images || finish 1 ;;
"pull --quiet "*) grep -qxF "${*: -1}" $STAND/registry || { echo "not found" >&2; finish 1; }; echo "${*: -1}" >>$STAND/images ;;
"stop "*) sed -i "s/^\($2 [^ ]*\) running .*/\1 exited none/" $STAND/containers ;;
"rm "*) for c in "$@"; do sed -i "/^$c /d" $STAND/containers; done ;;
*) echo "unknown: docker $*" >&2; finish 99 ;;
esac
finish`

const backendImage = "ghcr.io/weir-proxy/weir-backend:"

// newEngine has three containers of v2 that serve, and v1 in the registry.
func newEngine(t *testing.T) *standIns {
	s := newStandIns(t, map[string]string{"docker": engine, "sleep": ""})
	s.write("compose.yaml", "services: {}\n")
	s.write(".env", "OTHER=kept\nVERSION=v2\n")
	s.write("containers", strings.ReplaceAll("c1 IMAGE running healthy\nc2 IMAGE running healthy\nc3 IMAGE running healthy\n", "IMAGE", backendImage+"v2"))
	s.write("next", "3\n")
	s.write("health", "starting\n")
	s.write("images", backendImage+"v2\n")
	s.write("registry", backendImage+"v1\n")
	return s
}

// least is the smallest number of containers that could serve at any time.
func (s *standIns) least() int {
	least := 99
	for line := range strings.Lines(s.read("serving")) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			s.t.Fatal(err)
		}
		least = min(least, n)
	}
	return least
}

func (s *standIns) rollback(args ...string) (string, int) {
	return s.run([]string{"VERSION="}, "./rollback.sh", append([]string{"--compose-file", s.folder + "/compose.yaml"}, args...)...)
}

func TestRollback(t *testing.T) {
	s := newEngine(t)
	out, status := s.rollback("--version", "v1", "--reason", "v2 answers 500")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	want := strings.ReplaceAll("c4 IMAGE running healthy\nc5 IMAGE running healthy\nc6 IMAGE running healthy\n", "IMAGE", backendImage+"v1")
	if got := s.read("containers"); got != want {
		t.Errorf("containers\n%s\nwant\n%s\n%s", got, want, out)
	}
	if least := s.least(); least < 3 {
		t.Errorf("at one time %d containers could serve, of 3", least)
	}
	if got := s.read("weir"); got != "rollback --reason v2 answers 500 --token-file /run/secrets/weir-admin\n" {
		t.Errorf("weir was told %q", got)
	}
	if got := s.read(".env"); got != "OTHER=kept\nVERSION=v1\n" {
		t.Errorf(".env is %q", got)
	}
	if got := s.read("compose.yaml"); got != "services: {}\n" {
		t.Errorf("the compose file was changed: %q", got)
	}
	// Weights before images, and the image before anything that replaces containers.
	log := strings.Split(s.read("log"), "\n")
	order := []string{"exec -T weir", "pull --quiet", "up --detach", "stop c1"}
	at := -1
	for _, step := range order {
		i := slices.IndexFunc(log, func(line string) bool { return strings.Contains(line, step) })
		if i <= at {
			t.Errorf("%s is command %d of\n%s\nwant this order: %v", step, i, strings.Join(log, "\n"), order)
		}
		at = i
	}
	backups, err := filepath.Glob(s.folder + "/backups/*/*")
	if err != nil || len(backups) != 3 {
		t.Fatalf("the backup has %v, %v", backups, err)
	}
	for _, backup := range backups {
		if text, err := os.ReadFile(backup); err != nil || strings.Contains(string(text), "v1") {
			t.Errorf("%s is not what was in force: %q, %v", backup, text, err)
		}
	}
	if env, err := os.ReadFile(filepath.Join(filepath.Dir(backups[0]), ".env")); err != nil || !strings.Contains(string(env), "VERSION=v2") {
		t.Errorf(".env in the backup: %q, %v", env, err)
	}
}

// TestRollbackInPlace is a service of which there can be one only, as blue and green: its pool is drained meanwhile.
func TestRollbackInPlace(t *testing.T) {
	s := newEngine(t)
	out, status := s.rollback("--version", "v1", "--pool", "green", "--token-file", "", "--reason", "back")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	if got, want := s.read("weir"), "rollback --reason back\ndrain green --wait --timeout 120s --reason back\nundrain green --reason back\n"; got != want {
		t.Errorf("weir was told\n%s\nwant\n%s", got, want)
	}
	if got := s.read("containers"); got != "c4 "+backendImage+"v1 running healthy\n" {
		t.Errorf("containers %q", got)
	}
}

// TestRollbackFails: whatever goes wrong, the containers that served do so still, and the next "up" starts what it did.
func TestRollbackFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*standIns)
		args   []string
		status int
		says   string
		steers bool // the weights were gone back with
	}{
		{"no such image", func(s *standIns) { s.write("registry", "") }, nil, 1, "there is no image " + backendImage + "v1", true},
		{"never healthy", func(s *standIns) { s.write("health", "unhealthy\n") }, []string{"--timeout", "0"}, 1, "did not become healthy and are gone again", true},
		{"the version that runs", nil, []string{"--version", "v2"}, 1, "already", true},
		{"another variable", nil, []string{"--variable", "TAG"}, 1, "is TAG what holds its tag?", true},
		{"another service", nil, []string{"--service", "ml-api-blue"}, 1, "no container of ml-api-blue runs", true},
		{"nothing runs", func(s *standIns) { s.write("containers", "") }, nil, 1, "no container of ml-api runs", true},
		{"a drain that is refused", func(s *standIns) { s.write("weir-refuses", "") }, []string{"--pool", "green"}, 1, "was not drained: nothing was replaced", false},
		{"no file", nil, []string{"--compose-file", "/no/such.yaml"}, 1, "there is no /no/such.yaml", false},
		{"no version", nil, []string{"--version", ""}, 2, "--version is missing", false},
		{"a version that is a command", nil, []string{"--version", "v1; rm -rf /"}, 2, "is no tag", false},
		{"a flag without a value", nil, []string{"--service"}, 2, "needs a value", false},
		{"an unknown flag", nil, []string{"--force"}, 2, "unknown argument", false},
		{"a dry run", nil, []string{"--dry-run"}, 0, "would run: beside", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newEngine(t)
			if test.change != nil {
				test.change(s)
			}
			before := s.read("containers")
			out, status := s.rollback(append([]string{"--version", "v1"}, test.args...)...)
			if status != test.status || !strings.Contains(out, test.says) {
				t.Errorf("status %d, want %d and %q:\n%s", status, test.status, test.says, out)
			}
			if got := s.read("containers"); got != before {
				t.Errorf("containers\n%s\nwant\n%s", got, before)
			}
			if got := s.read(".env"); got != "OTHER=kept\nVERSION=v2\n" {
				t.Errorf(".env is %q", got)
			}
			if steers := s.read("weir") != ""; steers != test.steers {
				t.Errorf("weir was told %q", s.read("weir"))
			}
		})
	}
}

// TestRollbackWithoutWeights: a weir that refuses, or none, does not keep the images from going back.
func TestRollbackWithoutWeights(t *testing.T) {
	for name, args := range map[string][]string{"refused": nil, "none": {"--weir", ""}} {
		s := newEngine(t)
		s.write("weir-refuses", "")
		out, status := s.rollback(append([]string{"--version", "v1"}, args...)...)
		if status != 0 || strings.Contains(s.read("containers"), "v2") {
			t.Errorf("%s: status %d, containers %q\n%s", name, status, s.read("containers"), out)
		}
	}
}
