// Judges histories with Porcupine, a linearizability checker that others wrote: the measure of ours.
//
// Reads histories, one JSON object a line, and prints a verdict a line: ok, illegal, or unknown when
// the search took longer than its limit. See `history` for the fields.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The search for one history is exponential; all but few of those we make end within milliseconds.
const limit = 10 * time.Second

// history is what was seen of one object.
type history struct {
	Kind       string      `json:"kind"` // register or counter
	Initial    int64       `json:"initial"`
	Operations []operation `json:"operations"`
}

// operation is a register's write or read, or a counter's increment (which reads what it made) or
// read.
type operation struct {
	Start int64 `json:"start"`
	// Null without an answer: what changes the state may take effect at any later time, or never.
	End       *int64 `json:"end"`
	Write     *int64 `json:"write"`
	Increment *int64 `json:"increment"`
	Read      *int64 `json:"read"`
}

// kind is what histories of one kind of object hold.
type kind struct {
	fields string
	valid  func(o operation) bool
	step   func(value int64, o operation) (bool, int64)
}

var kinds = map[string]kind{
	"register": {
		fields: "either write or read",
		valid:  func(o operation) bool { return o.Increment == nil && (o.Write == nil) != (o.Read == nil) },
		step: func(value int64, o operation) (bool, int64) {
			if o.Write != nil {
				return true, *o.Write
			}
			return value == *o.Read, value
		},
	},
	"counter": {
		fields: "read, increment and read, or increment without end",
		valid: func(o operation) bool {
			return o.Write == nil && (o.Read != nil || o.Increment != nil && o.End == nil)
		},
		step: func(value int64, o operation) (bool, int64) {
			if o.Increment != nil {
				value += *o.Increment
			}
			return o.End == nil || value == *o.Read, value
		},
	},
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer) error {
	lines := bufio.NewReader(input)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if line == "" {
			return nil
		}
		verdict, err := judge(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if _, err := fmt.Fprintln(output, strings.ToLower(string(verdict))); err != nil {
			return err
		}
	}
}

func judge(line string) (porcupine.CheckResult, error) {
	var h history
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&h); err != nil {
		return "", err
	}
	if decoder.More() {
		return "", errors.New("more than one history")
	}
	kind, known := kinds[h.Kind]
	if !known {
		return "", fmt.Errorf("kind %q: register or counter is meant", h.Kind)
	}
	var operations []porcupine.Operation
	for n, o := range h.Operations {
		if !kind.valid(o) {
			return "", fmt.Errorf("operation %d: one of a %s has %s", n, h.Kind, kind.fields)
		}
		// Placed last, after all that was answered, an operation is as if it had never happened.
		end := int64(math.MaxInt64)
		if o.End != nil {
			end = *o.End
		} else if o.Write == nil && o.Increment == nil {
			continue
		}
		if end < o.Start {
			return "", fmt.Errorf("operation %d: it ends at %d, before its start at %d", n, end, o.Start)
		}
		operations = append(operations, porcupine.Operation{Input: o, Call: o.Start, Return: end})
	}
	model := porcupine.Model{
		Init: func() any { return h.Initial },
		Step: func(state, input, _ any) (bool, any) { return kind.step(state.(int64), input.(operation)) },
	}
	return porcupine.CheckOperationsTimeout(model, operations, limit), nil
}
