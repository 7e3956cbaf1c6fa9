package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/telemetry"
)

// maxFile bounds a file, so that the path of another one does not fill the memory; of more the watch sees no change.
const maxFile = config.MaxFile

// File is what a file holds. Once it is started it follows the file: a new content is in force as soon as it is
// read, and one that is wrong leaves the one before it in force.
type File[T any] struct {
	path    string
	parse   func([]byte) (*T, error)
	current atomic.Pointer[T]
	sum     digest      // of what is in force; of Start's goroutines
	bad     atomic.Bool // what the file holds now

	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// Open reads a file, which must be right.
func Open[T any](path string, parse func([]byte) (*T, error)) (*File[T], error) {
	f := &File[T]{path: path, parse: parse}
	if _, err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current is what is in force.
func (f *File[T]) Current() *T { return f.current.Load() }

// Name is the path.
func (f *File[T]) Name() string { return f.path }

// Fresh reports whether what the file holds is in force.
func (f *File[T]) Fresh() bool { return !f.bad.Load() }

// Start has the file followed until Stop.
func (f *File[T]) Start(log *zap.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	var one sync.Mutex // the first look below may meet a change
	again := func() {
		one.Lock()
		defer one.Unlock()
		f.reread(log)
	}
	f.ended.Go(func() {
		watched := config.Watch(ctx, f.path, func(err error) { log.Warn("cannot watch a file of credentials", telemetry.Exception(err)) }, again)
		again() // it may have changed between being read and being watched
		<-watched
	})
}

// Stop ends that; what is in force stays so.
func (f *File[T]) Stop() {
	if f.cancel != nil {
		f.cancel()
		f.ended.Wait()
	}
}

func (f *File[T]) reread(log *zap.Logger) {
	changed, err := f.read()
	f.bad.Store(err != nil)
	if err != nil {
		log.Warn("a file of credentials was rejected; what it held before stays in force", telemetry.Exception(err))
	} else if changed {
		log.Info("a file of credentials is in force", zap.String("file", f.path))
	}
}

// read puts in force what the file holds, if that is right and another than before.
func (f *File[T]) read() (changed bool, err error) {
	data, err := readFile(f.path)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(data)
	if sum == f.sum && f.current.Load() != nil {
		return false, nil
	}
	value, err := f.parse(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.sum = sum
	f.current.Store(value)
	return true, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is a directory, a pipe, a socket or a device; name a regular file", path)
	}
	var data []byte
	if err == nil {
		data, err = readAll(path)
	}
	if err == nil {
		return data, nil
	}
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	return nil, fmt.Errorf("%s cannot be read: %w", path, err)
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	return data, err
}
