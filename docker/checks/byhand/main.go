// Byhand does what an engine would do with the Dockerfiles of weir's own programs, without one: each stage is a folder,
// COPY copies, RUN runs on this machine, with what .dockerignore lets through and the variables that the stage sets. What
// it cannot do is be the image: base images are not there, so that a command may find here what it would miss there.
//
//	go run ./byhand [-root FOLDER] [-version V]
//
// It prints where the image's own files are, a line an image: NAME FOLDER.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"weir/docker/checks/dockerfile"
)

func main() {
	repository := flag.String("repository", "../..", "weir's checkout")
	root := flag.String("root", "", "where to put the images (default: a folder that is removed at the end)")
	version := flag.String("version", "by-hand", "the VERSION of the build")
	flag.Parse()
	if err := run(*repository, *root, *version, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "byhand:", err)
		os.Exit(1)
	}
}

// run builds every image of weir's own and checks each.
func run(repository, root, version string, out, log io.Writer) error {
	if root == "" {
		made, err := os.MkdirTemp("", "weir-by-hand-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		root = made
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	for _, name := range []string{"weir", "weir-bench", "weir-backend"} {
		image, err := build(repository, filepath.Join(root, name), name, version, log)
		if err == nil {
			err = inspect(image, repository, version, log)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintln(out, name, image.folder)
	}
	return nil
}

// image is what a Dockerfile made: the files it adds to its base, and how it is started.
type image struct {
	name, folder string
	stage        *dockerfile.Stage
	env          []string // of the image itself, with paths in the folder in the place of those in the image
}

// builder is a build under way.
type builder struct {
	repository, root, version string
	file                      *dockerfile.File
	context                   []string
	done                      map[string]string // stages that are built, and their folders
	log                       io.Writer
}

func build(repository, root, name, version string, log io.Writer) (*image, error) {
	path := filepath.Join(repository, "docker", strings.TrimPrefix(name, "weir-")+".Dockerfile")
	file, err := dockerfile.Load(path)
	if err != nil {
		return nil, err
	}
	context, err := dockerfile.Context(repository)
	if err != nil {
		return nil, err
	}
	b := &builder{repository: repository, root: root, version: version, file: file, context: context, done: map[string]string{}, log: log}
	last, _ := file.Stage("")
	folder, env, err := b.stage(last)
	if err != nil {
		return nil, err
	}
	return &image{name: name, folder: folder, stage: last, env: env}, nil
}

// stage builds a stage, and before it those that it copies from.
func (b *builder) stage(s *dockerfile.Stage) (folder string, env []string, err error) {
	folder = filepath.Join(b.root, s.Name)
	if s.Name == "" {
		folder = filepath.Join(b.root, "image")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", nil, err
	}
	work := "/"
	for _, in := range s.Instructions {
		switch in.Name {
		case "ARG", "ENV":
			more, err := b.variables(in, folder)
			if err != nil {
				return "", nil, err
			}
			env = append(env, more...)
		case "WORKDIR":
			work = filepath.Join("/", work, in.Args)
			if strings.HasPrefix(in.Args, "/") {
				work = in.Args
			}
			err = os.MkdirAll(filepath.Join(folder, work), 0o755)
		case "COPY":
			err = b.copy(in, folder, work)
		case "RUN":
			err = b.run(in, filepath.Join(folder, work), env)
		case "ADD":
			err = errors.New("ADD is not done by hand")
		}
		if err != nil {
			return "", nil, fmt.Errorf("line %d: %w", in.Line, err)
		}
	}
	b.done[s.Name] = folder
	return folder, env, nil
}

// variables are those that an ARG or ENV sets. OUT is in the stage's folder; a value that is a path of the image becomes
// one of the folder.
func (b *builder) variables(in dockerfile.Instruction, folder string) (env []string, err error) {
	given := map[string]string{"VERSION": b.version, "TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH}
	pairs, err := in.Pairs()
	for _, p := range pairs {
		if value, ok := given[p.Name]; ok && in.Name == "ARG" {
			p.Value = value
		}
		if strings.HasPrefix(p.Value, "/") {
			p.Value = filepath.Join(folder, p.Value)
		}
		env = append(env, p.Name+"="+p.Value)
	}
	return env, err
}

func (b *builder) run(in dockerfile.Instruction, folder string, env []string) error {
	if err := b.seed(folder); err != nil {
		return err
	}
	fmt.Fprintln(b.log, "byhand: RUN", in.Args)
	cmd := exec.Command("/bin/sh", "-euc", in.Args)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	return cmd.Run()
}

// seed gives setup.sh what the checkout has fetched already, so that a build by hand fetches nothing. The script still
// decides whether that is what it wants.
func (b *builder) seed(folder string) error {
	if _, err := os.Stat(filepath.Join(folder, "scripts/setup.sh")); err != nil {
		return nil // not a stage that runs it
	}
	for _, path := range []string{"bin/lib/libonnxruntime.so", ".cache/onnxruntime.version"} {
		if _, err := os.Stat(filepath.Join(b.repository, path)); err != nil {
			continue
		}
		if err := copyFile(filepath.Join(b.repository, path), filepath.Join(folder, path)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) copy(in dockerfile.Instruction, folder, work string) error {
	sources, to, err := in.Copies()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(to, "/") {
		to = filepath.Join(work, to) + strings.Repeat("/", strings.Count(to[len(to)-1:], "/"))
	}
	for _, source := range sources {
		from := b.repository
		var files map[string]string
		if name := strings.Join(in.Flags["from"], ""); name != "" {
			s, ok := b.file.Stage(name)
			if !ok {
				return fmt.Errorf("no stage %s", name)
			}
			if b.done[name] == "" {
				if _, _, err := b.stage(s); err != nil {
					return fmt.Errorf("stage %s: %w", name, err)
				}
			}
			from = b.done[name]
			if files, err = below(from, source); err != nil {
				return err
			}
		} else {
			files = dockerfile.Matching(b.context, source)
			if len(files) == 0 {
				return fmt.Errorf("COPY %s: the context has no such file", source)
			}
		}
		// A file becomes the target itself, unless that ends in a slash or is a folder.
		info, err := os.Stat(filepath.Join(folder, to))
		into := strings.HasSuffix(to, "/") || err == nil && info.IsDir()
		for path, name := range files {
			target := filepath.Join(folder, to, name)
			if path == source && !into {
				target = filepath.Join(folder, to)
			}
			if err := copyFile(filepath.Join(from, path), target); err != nil {
				return err
			}
		}
		if len(files) == 0 { // an empty folder
			if err := os.MkdirAll(filepath.Join(folder, to), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// below lists the files of source in a stage's folder: the file itself by its name, or those of a folder by their paths in it.
func below(folder, source string) (map[string]string, error) {
	files := map[string]string{}
	at := filepath.Join(folder, source)
	info, err := os.Stat(at)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		files[source] = filepath.Base(source)
		return files, nil
	}
	err = filepath.WalkDir(at, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			name, _ := filepath.Rel(at, path)
			files[filepath.Join(source, name)] = name
		}
		return err
	})
	return files, err
}

// copyFile makes to a copy of from, with its mode.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// program is the image's own program.
func (i *image) program() (string, error) {
	entry, _ := i.stage.Last("ENTRYPOINT")
	words, ok := entry.Words()
	if !ok || len(words) != 1 || !slices.Contains([]string{"/weir", "/weir-bench", "/weir-backend"}, words[0]) {
		return "", fmt.Errorf("its ENTRYPOINT is %s", entry.Args)
	}
	return filepath.Join(i.folder, words[0]), nil
}
