package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

// completions is a small model server of the kind that the OpenAI client speaks to. It sends the next token when it is
// told to go on, and cuts the stream off when it is told not to, behind the given bytes.
func completions(t *testing.T, next <-chan bool, rest string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Model  string
			Stream bool
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || !asked.Stream || r.URL.Path != "/v1/chat/completions" {
			http.Error(w, "want a streaming chat completion", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		out := http.NewResponseController(w)
		out.Flush()
		for i := 0; ; i++ {
			more, open := <-next
			switch {
			case !open:
				fmt.Fprint(w, "data: [DONE]\n\n")
				return
			case !more:
				fmt.Fprint(w, rest)
				out.Flush()
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":%q,"choices":[{"index":0,"delta":{"content":"%d "},"finish_reason":null}]}`+"\n\n", asked.Model, i)
			out.Flush()
		}
	}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestEdgeOpenAI: the tokens of a model reach the OpenAI client one by one, and it learns that the answer was cut off
// and why.
func TestEdgeOpenAI(t *testing.T) {
	for _, c := range []struct {
		name, rest string
		whole      bool
		told       bool // by the error event, and not just by the cut
	}{
		{name: "whole", whole: true},
		{name: "cut between two events", told: true},
		{name: "cut in the middle of an event", rest: `data: {"id":"c","choices":[{"ind`},
		{name: "cut between two lines of an event", rest: "data: {}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := make(chan bool)
			r := start(t, setup{endpoints: []string{completions(t, next, c.rest)}})
			client := openai.NewClient(option.WithBaseURL("http://"+r.addr+"/v1"), option.WithAPIKey("k"), option.WithMaxRetries(0))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
				Model: "small", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")},
			})
			defer stream.Close()
			var text string
			next <- true
			for i := range 5 {
				if !stream.Next() {
					t.Fatalf("token %d: %v", i, stream.Err())
				}
				text += stream.Current().Choices[0].Delta.Content
				if i < 4 {
					next <- true
				}
			}
			if text != "0 1 2 3 4 " {
				t.Errorf("the client got %q", text)
			}
			if c.whole {
				close(next)
			} else {
				next <- false
			}
			if stream.Next() {
				t.Errorf("another token: %+v", stream.Current())
			}
			err := stream.Err()
			if (err == nil) != c.whole {
				t.Errorf("the client sees %v", err)
			}
			said, told := errors.AsType[*ssestream.StreamError](err)
			if told != c.told {
				t.Errorf("the client sees %T %v; it was to be told: %v", err, err, c.told)
			}
			if told && (said.Event.Type != "error" || !strings.Contains(string(said.Event.Data), `"code":"bad_gateway"`)) {
				t.Errorf("the client was told %s %s", said.Event.Type, said.Event.Data)
			}
		})
	}
}
