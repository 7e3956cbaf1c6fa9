package dockerfile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/docker/checks/dockerfile"
)

// root is the repository, which is the context of every build but those that files names another for.
const root = "../../.."

// files are the Dockerfiles, with the folder that is their context.
var files = map[string]string{
	"weir.Dockerfile":    root,
	"backend.Dockerfile": root,
	"bench.Dockerfile":   root,
	"mlflow.Dockerfile":  "../..",
	"fluentd/Dockerfile": "../../fluentd",

	"pipeline/model.Dockerfile": root,
}

// ours are the images whose contents are weir's own: they have to do without a shell.
var ours = []string{"weir.Dockerfile", "backend.Dockerfile", "bench.Dockerfile"}

func TestEveryDockerfileIsChecked(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "Dockerfile") && d.Type().IsRegular() {
			found++
			if name, _ := filepath.Rel("../..", path); files[name] == "" {
				t.Errorf("docker/%s is not in the list of this test", name)
			}
		}
		return err
	})
	if err != nil || found != len(files) {
		t.Errorf("%d of %d Dockerfiles were found: %v", found, len(files), err)
	}
}

func TestDockerfiles(t *testing.T) {
	for name, context := range files {
		t.Run(name, func(t *testing.T) {
			file, err := dockerfile.Load(filepath.Join("../..", name))
			if err != nil {
				t.Fatal(err)
			}
			if faults := check(t, file, context); len(faults) > 0 {
				t.Errorf("%s:\n%s", name, strings.Join(faults, "\n"))
			}
			if slices.Contains(ours, name) {
				for _, fault := range shellLess(file) {
					t.Errorf("%s: %s", name, fault)
				}
			}
		})
	}
}

// check returns what is wrong with a file whose context is a folder.
func check(t *testing.T, file *dockerfile.File, folder string) (faults []string) {
	t.Helper()
	context, err := dockerfile.Context(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(context) == 0 {
		t.Fatalf("the context %s has no files", folder)
	}
	used := map[string]bool{}
	for i := range file.Stages {
		s := &file.Stages[i]
		faults = append(faults, pinned(file, s)...)
		for _, in := range s.Instructions {
			if in.Name == "RUN" && len(in.Flags["network"]) > 0 {
				faults = append(faults, "RUN --network: a build that needs the host is not one that others can repeat")
			}
			if in.Name != "COPY" && in.Name != "ADD" {
				continue
			}
			from := strings.Join(in.Flags["from"], "")
			used[from] = true
			faults = append(faults, copies(file, i, in, context)...)
		}
	}
	for i, s := range file.Stages[:len(file.Stages)-1] {
		if s.Name == "" || !used[s.Name] && s.Name != "gpu" {
			faults = append(faults, "stage "+s.Name+" is neither used nor a target")
		}
		_ = i
	}
	for _, target := range targets(file) {
		base, _ := file.Image(target)
		faults = append(faults, runtime(target, strings.HasPrefix(base, own))...)
	}
	return faults
}

// targets are the stages that become images: the last one and gpu.
func targets(file *dockerfile.File) []*dockerfile.Stage {
	last, _ := file.Stage("")
	all := []*dockerfile.Stage{last}
	if gpu, ok := file.Stage("gpu"); ok {
		all = append(all, gpu)
	}
	return all
}

// own is how the names of weir's own images begin. What is built upon one has its user, its signal and its program; but
// its health check asks at the port at which the base listens.
const own = "ghcr.io/weir-proxy/"

// floating are tags that mean another image tomorrow. One of a version's minor is none: it gets fixes.
var floating = regexp.MustCompile(`:(latest|stable|edge|nightly|main|master|alpine|slim|bookworm|debian)$`)

func pinned(file *dockerfile.File, s *dockerfile.Stage) (faults []string) {
	image, own := file.Image(s)
	switch _, tag, tagged := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); {
	case own || image == "scratch":
	case strings.ContainsAny(image, "$ ") || image == "":
		faults = append(faults, "FROM "+s.From+": it is not known what that is: "+image)
	case !tagged && !strings.Contains(image, "@sha256:"), floating.MatchString(image):
		faults = append(faults, "FROM "+image+": no version")
	case tag == "nonroot" && !strings.HasPrefix(image, "gcr.io/distroless/"):
		faults = append(faults, "FROM "+image+": no version")
	}
	return faults
}

// copies checks one COPY or ADD of stage i.
func copies(file *dockerfile.File, i int, in dockerfile.Instruction, context []string) (faults []string) {
	sources, to, err := in.Copies()
	if err != nil {
		return []string{err.Error()}
	}
	if strings.HasSuffix(to, "/..") {
		faults = append(faults, in.Name+" to "+to)
	}
	if from := strings.Join(in.Flags["from"], ""); from != "" {
		earlier := slices.ContainsFunc(file.Stages[:i], func(s dockerfile.Stage) bool { return s.Name == from })
		if !earlier {
			faults = append(faults, "COPY --from="+from+": no earlier stage has that name")
		}
		return faults
	}
	defaults := map[string]string{}
	for _, arg := range file.Stages[i].Instructions {
		if pairs, err := arg.Pairs(); arg.Name == "ARG" && err == nil {
			for _, p := range pairs {
				defaults[p.Name] = p.Value
			}
		}
	}
	for _, source := range sources {
		source = os.Expand(source, func(name string) string { return defaults[name] })
		if strings.Contains(source, "://") {
			if in.Name != "ADD" || !strings.HasPrefix(strings.Join(in.Flags["checksum"], ""), "sha256:") {
				faults = append(faults, in.Name+" "+source+": without a checksum nobody knows what that is")
			}
		} else if in.Name == "ADD" {
			faults = append(faults, "ADD "+source+": it unpacks archives and fetches; COPY does what it says")
		} else if len(dockerfile.Matching(context, source)) == 0 {
			faults = append(faults, "COPY "+source+": the context has no such file, or .dockerignore leaves it out")
		}
	}
	return faults
}

// runtime checks a stage that becomes an image; inherits tells that it is built upon an image of weir's own.
func runtime(s *dockerfile.Stage, inherits bool) (faults []string) {
	user, ok := s.Last("USER")
	if name, _, _ := strings.Cut(user.Args, ":"); (ok || !inherits) && (name == "root" || name == "0" || name == "") {
		faults = append(faults, "the last USER is "+user.Args+": it runs as root")
	}
	for _, name := range []string{"HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"} {
		if _, ok := s.Last(name); !ok && !(name == "ENTRYPOINT" && s.From == "${FLUENTD_IMAGE}") && (!inherits || name == "HEALTHCHECK") {
			faults = append(faults, "no "+name)
		}
	}
	for _, name := range []string{"HEALTHCHECK", "ENTRYPOINT", "CMD"} {
		in, ok := s.Last(name)
		if _, exec := in.Words(); ok && !exec && in.Args != "NONE" {
			faults = append(faults, name+" "+in.Args+`: in the shell form, signals go to the shell; write ["a", "b"]`)
		}
	}
	return faults
}

// shellLess checks what holds for images of weir's own programs.
func shellLess(file *dockerfile.File) (faults []string) {
	for _, s := range targets(file) {
		for _, in := range s.Instructions {
			if in.Name == "RUN" {
				faults = append(faults, "a RUN in the image itself, which has no shell")
			}
		}
		if user, _ := s.Last("USER"); user.Args != "65532:65532" {
			faults = append(faults, "USER "+user.Args+": Kubernetes' runAsNonRoot needs the number, 65532:65532")
		}
		labels := ""
		for _, in := range s.Instructions {
			if in.Name == "LABEL" {
				labels += in.Args
			}
		}
		for _, label := range []string{"title", "description", "source", "licenses", "version", "revision"} {
			if !strings.Contains(labels, "org.opencontainers.image."+label+"=") {
				faults = append(faults, "no label org.opencontainers.image."+label)
			}
		}
		entry, _ := s.Last("ENTRYPOINT")
		words, _ := entry.Words()
		if !slices.ContainsFunc(s.Instructions, func(in dockerfile.Instruction) bool {
			_, to, err := in.Copies()
			return in.Name == "COPY" && err == nil && len(words) > 0 && to == words[0]
		}) {
			faults = append(faults, "nothing copies "+entry.Args+" there")
		}
	}
	return faults
}

// TestCheckFindsFaults holds the check to what it is for: each of these has one fault, which it names.
func TestCheckFindsFaults(t *testing.T) {
	good := "FROM alpine:3.22 AS build\nWORKDIR /src\nCOPY go.mod .\nRUN --mount=type=cache,target=/x true && \\\n    # a comment\n    true\n" +
		"FROM gcr.io/distroless/static-debian12:nonroot\nCOPY --from=build /src/go.mod /go.mod\nUSER 65532:65532\nSTOPSIGNAL SIGTERM\n" +
		"HEALTHCHECK --interval=1s CMD [\"/a\", \"b\"]\nENTRYPOINT [\"/a\"]\n"
	for _, test := range []struct{ was, is, fault string }{
		{"", "", ""},
		{"alpine:3.22", "alpine", "no version"},
		{"alpine:3.22", "alpine:latest", "no version"},
		{"alpine:3.22", "${BASE}", "it is not known what that is"},
		{"COPY go.mod", "COPY no.mod", "the context has no such file"},
		{"COPY go.mod", "COPY README.md", "the context has no such file"}, // .dockerignore leaves it out
		{"COPY go.mod", "ARG FILE=go.mod\nCOPY $FILE", ""},
		{"COPY go.mod", "ARG FILE=no.mod\nCOPY ${FILE}", "COPY no.mod: the context has no such file"},
		{"gcr.io/distroless/static-debian12:nonroot", own + "weir", "no version"},
		{"USER 65532:65532\nSTOPSIGNAL SIGTERM\nHEALTHCHECK", "HEALTHCHECK", "it runs as root"},
		{"COPY go.mod", "ADD go.mod", "COPY does what it says"},
		{"COPY go.mod", "ADD https://example.com/x", "without a checksum"},
		{"--from=build", "--from=builder", "no earlier stage"},
		{"USER 65532:65532\n", "", "it runs as root"},
		{"USER 65532:65532", "USER 65532\nUSER root", "it runs as root"},
		{"STOPSIGNAL SIGTERM\n", "", "no STOPSIGNAL"},
		{"HEALTHCHECK --interval=1s CMD [\"/a\", \"b\"]\n", "", "no HEALTHCHECK"},
		{"[\"/a\", \"b\"]", "curl -f localhost", "in the shell form"},
		{"ENTRYPOINT [\"/a\"]", "ENTRYPOINT /a", "in the shell form"},
	} {
		if !strings.Contains(good, test.was) {
			t.Fatalf("%q is not in the good file", test.was)
		}
		file, err := dockerfile.Parse(strings.Replace(good, test.was, test.is, 1))
		if err != nil {
			t.Fatal(err)
		}
		faults := strings.Join(check(t, file, root), "\n")
		if !strings.Contains(faults, test.fault) || test.fault == "" && faults != "" {
			t.Errorf("%q in the place of %q: faults %q, want %q", test.is, test.was, faults, test.fault)
		}
	}
}

// TestInheritedSettings: what is built upon an image of weir's own has its user and its program, and asks for its health itself.
func TestInheritedSettings(t *testing.T) {
	const good = "FROM " + own + "weir-backend:v1.2.3\nHEALTHCHECK CMD [\"/a\"]\nCMD [\"--listen\", \":8000\"]\n"
	for _, test := range []struct{ was, is, fault string }{
		{"", "", ""},
		{"HEALTHCHECK CMD [\"/a\"]\n", "", "no HEALTHCHECK"},
		{"HEALTHCHECK", "USER root\nHEALTHCHECK", "it runs as root"},
		{own, "ghcr.io/others/", "it runs as root"},
	} {
		file, err := dockerfile.Parse(strings.Replace(good, test.was, test.is, 1))
		if err != nil {
			t.Fatal(err)
		}
		faults := strings.Join(check(t, file, root), "\n")
		if !strings.Contains(faults, test.fault) || test.fault == "" && faults != "" {
			t.Errorf("%q in the place of %q: faults %q, want %q", test.is, test.was, faults, test.fault)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "there is no FROM",
		"RUN true\nFROM a:1":           "RUN before the first FROM",
		"FROM a:1\nONBUILD RUN true":   "ONBUILD, which this reader does not know",
		"FROM a:1 b":                   "want IMAGE [AS NAME]",
		"FROM a:1\nRUN true && \\\n":   "line 2: the file ends in the middle",
		"FROM a:1\nRUN <<EOF\nx\nEOF":  "a heredoc",
		"FROM a:1\n# x\n\nCOMAND true": "line 4: COMAND",
	} {
		if _, err := dockerfile.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestContextHasWhatIsNeeded: the build gets the sources, and nothing that would make its layers stale for no reason.
func TestContextHasWhatIsNeeded(t *testing.T) {
	context, err := dockerfile.Context(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go.mod", "go.sum", "LICENSE", "cmd/weir/main.go", "proxy/admin/openapi.yaml", "scripts/setup.sh"} {
		if !slices.Contains(context, want) {
			t.Errorf("it has no %s", want)
		}
	}
	for _, path := range context {
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".md") && strings.HasPrefix(path, "docs/") ||
			strings.HasPrefix(path, "docker/") || strings.HasPrefix(path, ".git") || strings.HasPrefix(path, "bin/") {
			t.Errorf("it has %s", path)
		}
	}
}
