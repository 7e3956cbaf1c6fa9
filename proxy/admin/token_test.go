package admin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/config"
)

const (
	fullToken = "full-0123456789abcdef"
	readToken = "read-0123456789abcdef"
	opsToken  = "ops:0123456789abcdef/+="
)

// tokenFile writes a token file and returns its path.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadTokens(t *testing.T) {
	path := tokenFile(t, "\ufeff# who may do what\n\n  "+fullToken+"  \r\nci:read:"+readToken+"\nops:write:"+opsToken+"\nops:read:another-0123456789")
	set, err := ReadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	if set.Warning != "" {
		t.Errorf("warning %q", set.Warning)
	}
	for secret, want := range map[string]string{fullToken: "token true", readToken: "ci false", opsToken: "ops true", "another-0123456789": "ops false"} {
		got, ok := set.find(secret)
		if !ok || fmt.Sprint(got.name, " ", got.write) != want {
			t.Errorf("a token is %q %v, want %s", got.name, ok, want)
		}
	}
	for _, secret := range []string{"", "token", fullToken[1:], fullToken + "x", "ci:read:" + readToken, "# who may do what"} {
		if got, ok := set.find(secret); ok {
			t.Errorf("%q is let in as %q", secret, got.name)
		}
	}
	if got, err := FirstToken(path); err != nil || got != fullToken {
		t.Errorf("FirstToken: %q, %v", got, err)
	}
	if got, err := FirstToken(tokenFile(t, "a:read:"+readToken+"\nb:write:"+opsToken)); err != nil || got != opsToken {
		t.Errorf("FirstToken: %q, %v, want the one that may write", got, err)
	}
	if got, err := FirstToken(tokenFile(t, "a:read:"+readToken)); err != nil || got != readToken {
		t.Errorf("FirstToken: %q, %v", got, err)
	}
}

func TestNoTokenFile(t *testing.T) {
	if set, err := ReadTokens(""); set != nil || err != nil {
		t.Errorf("%v, %v", set, err)
	}
}

func TestBadTokenFiles(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // place and message of each fault
	}{
		{"empty", "", []string{":1:1: admin.token_file: the file has no token"}},
		{"comments", "# none\n\n", []string{":1:1: admin.token_file: the file has no token"}},
		{"short", "\n  s3cret-fifteen-\n", []string{":2:3: admin.token_file: the token has 15 characters; write at least 16"}},
		{"short with a name", "ci:read:s3cret\n", []string{":1:1: admin.token_file: the token has 6 characters"}},
		{"role", "ci:admin:" + readToken, []string{":1:1: admin.token_file: the line has a colon and is not NAME:read:TOKEN"}},
		{"colon", "s3cret:" + readToken, []string{":1:1: admin.token_file: the line has a colon"}},
		{"name", "s3cret name:read:" + readToken, []string{":1:1: admin.token_file: the name is not 1 to 63"}},
		{"no name", ":read:" + readToken, []string{":1:1: admin.token_file: the name is not 1 to 63"}},
		{"blank", "s3cret s3cret s3cret", []string{":1:1: admin.token_file: the token has a character that cannot be sent"}},
		{"other script", "s3cret-пароль-пароль", []string{":1:1: admin.token_file: the token has a character that cannot be sent"}},
		{"twice", readToken + "\n" + opsKey + "\nci:read:" + readToken, []string{":3:1: admin.token_file: the token is that of line 1"}},
		{"all at once", "s3cret\n" + readToken + "\ns3cre2", []string{":1:1:", ":3:1:"}},
		{"too many", strings.Repeat("#", 3) + "\n" + manyTokens(1001), []string{":1002:1: admin.token_file: there are more than 1000 tokens"}},
		{"too large", strings.Repeat("# much\n", 1<<18), []string{": admin.token_file: is larger than 1MiB"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tokenFile(t, tt.text)
			_, err := ReadTokens(path)
			var faults config.Faults
			if !errors.As(err, &faults) || len(faults) != len(tt.want) {
				t.Fatalf("got %v, want %d faults", err, len(tt.want))
			}
			for i, f := range faults {
				if !strings.HasPrefix(f.Error(), path+tt.want[i]) {
					t.Errorf("got %s\nwant %s%s…", f, path, tt.want[i])
				}
				for _, secret := range []string{"s3cret", "s3cre2", "0123456789"} {
					if strings.Contains(f.Message, secret) {
						t.Errorf("a token is in the message: %s", f)
					}
				}
			}
		})
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): ": admin.token_file: cannot be read: no such file or directory",
		t.TempDir():                        ": admin.token_file: is a directory; name a file with tokens",
	} {
		if _, err := ReadTokens(path); err == nil || err.Error() != path+want {
			t.Errorf("got %v, want %s%s", err, path, want)
		}
		if _, err := FirstToken(path); err == nil || strings.Contains(err.Error(), "admin.token_file") {
			t.Errorf("a client is told %v", err)
		}
	}
}

const opsKey = "ops-0123456789abcdef"

func manyTokens(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "token-0123456789-%d\n", i)
	}
	return out.String()
}

func TestTokenFileThatOthersCanRead(t *testing.T) {
	path := tokenFile(t, fullToken)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := ReadTokens(path)
	if err != nil || !strings.Contains(set.Warning, "can be read by every user of this machine (mode 0644)") {
		t.Errorf("%v, %v", set, err)
	}
}

func FuzzTokenFile(f *testing.F) {
	f.Add("a:read:" + readToken + "\n# x\n" + fullToken)
	f.Add("::\n\x00\nx:write:")
	f.Fuzz(func(t *testing.T, text string) {
		path := tokenFile(t, text)
		set, err := ReadTokens(path)
		if err != nil {
			var faults config.Faults
			if !errors.As(err, &faults) {
				t.Errorf("error is a %T", err)
			}
			return
		}
		secret, err := FirstToken(path)
		if err != nil || len(secret) < minToken {
			t.Errorf("%q, %v", secret, err)
		}
		if _, ok := set.find(secret); !ok {
			t.Error("a token of the file is not let in")
		}
	})
}
