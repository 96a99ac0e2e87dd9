package limit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
)

// checkShape refuses what encoding/json would let pass and what would leave a
// bound out unseen: null, a name twice, and one in another spelling. It reads
// the tokens of one value for a field of type t, which is called name, and goes
// no deeper than the fields do.
func checkShape(dec *json.Decoder, t reflect.Type, name string) error {
	token, err := dec.Token()
	if err != nil {
		return badJSON(err)
	}
	if t.Kind() == reflect.Struct {
		if token != json.Delim('{') {
			return fmt.Errorf("%s is %s, and must be an object, as in {}", name, kindOf(token))
		}
		return checkFields(dec, t, name)
	}
	n, ok := token.(json.Number)
	if !ok {
		return fmt.Errorf("%s is %s, and must be a whole number", name, kindOf(token))
	}
	_, err = strconv.ParseInt(n.String(), 10, t.Bits())
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is %.40s, which is too large a number", name, n)
	case err != nil:
		return fmt.Errorf("%s is %.40s, and must be a whole number", name, n)
	}
	return nil
}

// checkFields reads an object behind its brace, to its end.
func checkFields(dec *json.Decoder, t reflect.Type, name string) error {
	fields := make(map[string]reflect.Type, t.NumField())
	for f := range t.Fields() {
		fields[f.Tag.Get("json")] = f.Type
	}
	prefix := name + "."
	if name == theFile {
		prefix = ""
	}
	seen := make(map[string]bool, len(fields))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return badJSON(err)
		}
		key, _ := token.(string) // the decoder takes nothing else there
		field, ok := fields[key]
		switch {
		case !ok:
			return fmt.Errorf("unknown field %q in %s", cut(key), name)
		case seen[key]:
			return fmt.Errorf("%s is given twice", prefix+key)
		}
		seen[key] = true
		if err := checkShape(dec, field, prefix+key); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return badJSON(err)
	}
	return nil
}

// theFile is what the outermost object is called.
const theFile = "the file"

// kindOf says what a value is, in the words of JSON.
func kindOf(token json.Token) string {
	switch v := token.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return fmt.Sprintf("the text %q", cut(v))
	case json.Number:
		return fmt.Sprintf("the number %.40s", v)
	case json.Delim:
		if v == '[' {
			return "a list"
		}
	}
	return "an object"
}

func cut(s string) string { return s[:min(len(s), 40)] }

func badJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not JSON: it ends too early")
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON at byte %d: %w", e.Offset, err)
	}
	return fmt.Errorf("not JSON: %w", err)
}
