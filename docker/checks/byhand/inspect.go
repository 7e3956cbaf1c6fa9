package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// glibc is that of Debian 12, on which weir-backend's image stands: what needs a newer one does not start there.
var glibc = [2]int{2, 36}

// provided are the libraries of gcr.io/distroless/cc-debian12.
var provided = []string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libresolv.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

// inspect checks what was built, and starts it.
func inspect(i *image, repository, version string, log io.Writer) error {
	program, err := i.program()
	if err != nil {
		return err
	}
	if err := binary(program, i.name != "weir-backend"); err != nil {
		return err
	}
	if err := nameless(program, filepath.Dir(i.folder)); err != nil {
		return err
	}
	ask := "version"
	if i.name == "weir-bench" {
		ask = "--version"
	}
	said, err := i.start(program, ask).CombinedOutput()
	if err != nil {
		return fmt.Errorf("it does not tell its version: %w\n%s", err, said)
	}
	if !bytes.Contains(said, []byte(version)) {
		return fmt.Errorf("it says %q of its version, want %s", said, version)
	}
	switch i.name {
	case "weir":
		return configurations(i, program, repository, log)
	case "weir-backend":
		if err := binary(filepath.Join(i.folder, "usr/local/lib/libonnxruntime.so"), false); err != nil {
			return err
		}
		return serve(i, program, repository)
	}
	return nil
}

// start prepares a command with nothing in its environment but what the image gives it.
func (i *image) start(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = i.folder
	cmd.Env = append([]string{"PATH=/nowhere"}, i.env...)
	return cmd
}

// binary checks that a program starts on its base image: a static one everywhere, another with the libraries that are there.
func binary(path string, static bool) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if static {
		if len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			return fmt.Errorf("%s is not static: it needs %v", filepath.Base(path), libraries)
		}
		return nil
	}
	for _, library := range libraries {
		if !slices.Contains(provided, library) {
			return fmt.Errorf("%s needs %s, which its base image does not have", filepath.Base(path), library)
		}
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if text, ok := strings.CutPrefix(s.Version, "GLIBC_"); ok && newer(text) {
			return fmt.Errorf("%s needs %s of glibc %s; Debian 12 has %d.%d", filepath.Base(path), s.Name, text, glibc[0], glibc[1])
		}
	}
	return nil
}

// newer tells whether a version such as 2.34 is beyond glibc.
func newer(text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) < 2 {
		return false // GLIBC_PRIVATE
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > glibc[0] || major == glibc[0] && minor > glibc[1]
}

// nameless checks that a program does not tell where it was built, or two builds would differ.
func nameless(path, where string) error {
	content, err := os.ReadFile(path)
	if err == nil && bytes.Contains(content, []byte(where)) {
		err = fmt.Errorf("%s tells that it was built in %s", filepath.Base(path), where)
	}
	return err
}

// configurations has the built weir check each file of docker/weir, with secrets that docker/secrets.sh makes.
func configurations(i *image, program, repository string, log io.Writer) error {
	secrets, tls := filepath.Join(i.folder, "run/secrets"), filepath.Join(i.folder, "etc/weir-tls")
	script := filepath.Join(repository, "docker/secrets.sh")
	for _, args := range [][]string{{script, secrets, "weir-admin"}, {script, tls, "trial-certificate"}} {
		if out, err := exec.Command("sh", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(repository, "docker/weir/*.yaml"))
	if err != nil {
		return err
	}
	if len(files) < 5 {
		return fmt.Errorf("docker/weir has %d files", len(files))
	}
	for _, file := range files {
		file, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		cmd := i.start(program, "check", file)
		cmd.Env = append(cmd.Env, "WEIR_SECRETS="+secrets, "WEIR_TLS="+tls, "WEIR_STATE="+filepath.Join(i.folder, "var/lib/weir"))
		out, err := cmd.CombinedOutput()
		fmt.Fprintf(log, "byhand: %s", out)
		if err != nil {
			return fmt.Errorf("weir check %s: %w\n%s", file, err, out)
		}
	}
	return nil
}

// serve starts the built weir-backend with a model, and asks it by the image's own HEALTHCHECK until that succeeds.
func serve(i *image, program, repository string) error {
	model, err := filepath.Abs(filepath.Join(repository, "backend/models/fashion-v1.onnx"))
	if err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	var said bytes.Buffer
	server := i.start(program, "--listen", address)
	server.Env = append(server.Env, "MODEL_PATH="+model)
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = i.untilHealthy(ctx, address, ended)
	_ = server.Process.Signal(os.Interrupt) // does nothing when it has ended
	if err == nil {
		if err = <-ended; err == nil {
			return nil
		}
	} else {
		_ = server.Process.Kill()
	}
	return fmt.Errorf("%w\n%s", err, &said)
}

// untilHealthy asks by the HEALTHCHECK of the image, with the address in the place of its default.
func (i *image) untilHealthy(ctx context.Context, address string, ended chan error) error {
	check, _ := i.stage.Last("HEALTHCHECK")
	words, ok := check.Words()
	if !ok || len(words) == 0 {
		return fmt.Errorf("its HEALTHCHECK is %s", check.Args)
	}
	for {
		out, err := i.start(filepath.Join(i.folder, words[0]), append(words[1:], address)...).CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended by itself: %v", err)
		case <-ctx.Done():
			return fmt.Errorf("it was never healthy: %w %s", err, out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
