package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Usage adds up what the process group of the program has used. What a thread used that has
// ended is not in it, so measure programs that have settled.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	members, err := groupMembers(p.Pid())
	if err != nil {
		return u, err
	}
	if len(members) == 0 {
		return u, fmt.Errorf("%s: %w", p.Name, os.ErrProcessDone)
	}
	for _, dir := range members {
		if err := u.addProcess(dir); err != nil {
			return u, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return u, nil
}

// Self is what the calling program has used.
func Self() (Usage, error) {
	var u Usage
	return u, u.addProcess("/proc/self")
}

// Pids returns the process ids of the program and its children.
func (p *Process) Pids() ([]int, error) {
	members, err := groupMembers(p.Pid())
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range members {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// groupMembers returns the /proc directories of the processes of a process group.
func groupMembers(pgrp int) ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var members []string
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// pid (name) state ppid pgrp: the name may hold anything, so look behind its end.
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(f) > 2 && string(f[2]) == strconv.Itoa(pgrp) && string(f[0]) != "Z" {
			members = append(members, dir)
		}
	}
	return members, nil
}

// gone reports whether err says that a process or thread ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func (u *Usage) addProcess(dir string) error {
	tasks, err := filepath.Glob(filepath.Join(dir, "task", "*"))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if err := u.addTask(task); err != nil && !gone(err) {
			return err
		}
	}
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if f := bytes.Fields(statm); len(f) > 1 {
		pages, err := strconv.ParseInt(string(f[1]), 10, 64)
		if err != nil {
			return err
		}
		u.Resident += pages * int64(os.Getpagesize())
	}
	return nil
}

// addTask adds a thread: schedstat begins with the nanoseconds it ran.
func (u *Usage) addTask(dir string) error {
	stat, err := os.ReadFile(filepath.Join(dir, "schedstat"))
	if err != nil {
		return err
	}
	ran, _, _ := bytes.Cut(stat, []byte(" "))
	ns, err := strconv.ParseInt(string(ran), 10, 64)
	if err != nil {
		return err
	}
	u.CPU += time.Duration(ns)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.HasSuffix(name, []byte("voluntary_ctxt_switches")) { // nonvoluntary too
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			return err
		}
		u.Switches += n
	}
	return nil
}
