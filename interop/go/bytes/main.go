// The bytes of gob: `bytes write` prints a line of name and hex for each value below, and
// `bytes check FILE` reads such lines back and compares.
package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"log"
	"math"
	"os"
	"reflect"
	"strings"
)

type Point struct {
	X, Y int
}

// More has fields that Point lacks, of all kinds.
type More struct {
	Before  map[string][]Point
	X       int
	Complex complex128
	Any     any
	Array   [2]Point
	Y       int
	After   *Point
}

// Fewer lacks a field of Point.
type Fewer struct {
	Y int
}

type Kinds struct {
	Bool    bool
	Int     int
	Small   int8
	Uint    uint
	Float   float64
	Single  float32
	String  string
	Bytes   []byte
	Slice   []int
	Array   [3]int
	Octets  [2]byte
	Map     map[string]int
	Inner   Point
	Inners  []Point
	Deep    [][]string
	Pointer *int
	Empty   struct{}
}

var seven = 7

var cases = []struct {
	name  string
	value any
}{
	{"int-zero", 0},
	{"int-one", 1},
	{"int-minus-one", -1},
	{"int-63", 63},
	{"int-64", 64},
	{"int-minus-65", -65},
	{"int-minus-129", -129},
	{"int-max", math.MaxInt64},
	{"int-min", math.MinInt64},
	{"uint-127", uint(127)},
	{"uint-128", uint(128)},
	{"uint-256", uint(256)},
	{"uint-max", uint64(math.MaxUint64)},
	{"float-zero", 0.0},
	{"float-17", 17.0},
	{"float-minus-half", -0.5},
	{"float-max", math.MaxFloat64},
	{"float-infinite", math.Inf(-1)},
	{"bool-true", true},
	{"bool-false", false},
	{"string", "héllo"},
	{"string-empty", ""},
	{"bytes", []byte{0, 1, 255}},
	{"slice", []int{1, 0, -300}},
	{"slice-empty", []int{}},
	{"array", [3]int{4, 0, 6}},
	{"map", map[string]int{"one": 1}},
	{"map-empty", map[string]int{}},
	{"point", Point{22, -33}},
	{"point-zero", Point{}},
	{"points", []Point{{1, 2}, {}, {0, 3}}},
	{"fewer", Fewer{9}},
	{"empty", struct{}{}},
	{"kinds-zero", Kinds{}},
	{"kinds", Kinds{
		Bool: true, Int: -1 << 40, Small: -128, Uint: 1 << 63, Float: 1e-300, Single: 0.25,
		String: "s", Bytes: []byte{9}, Slice: []int{0}, Array: [3]int{1}, Octets: [2]byte{200, 0},
		Map: map[string]int{"": 0}, Inner: Point{0, 5}, Inners: []Point{{}, {6, 7}},
		Deep: [][]string{{"a"}, {}}, Pointer: &seven,
	}},
	{"more", More{
		Before: map[string][]Point{"k": {{1, 1}, {2, 2}}}, X: 22, Complex: complex(1, -2),
		Any: Point{5, 5}, Array: [2]Point{{3, 3}, {}}, Y: -33, After: &Point{4, 4},
	}},
}

func main() {
	gob.Register(Point{})
	if os.Args[1] == "write" {
		for _, c := range cases {
			var out bytes.Buffer
			if err := gob.NewEncoder(&out).Encode(c.value); err != nil {
				log.Fatal(c.name, ": ", err)
			}
			fmt.Printf("%s %x\n", c.name, out.Bytes())
		}
		return
	}
	file, err := os.Open(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); count++ {
		name, text, _ := strings.Cut(lines.Text(), " ")
		raw, err := hex.DecodeString(text)
		if err != nil {
			log.Fatal(name, ": ", err)
		}
		found := false
		for _, c := range cases {
			if c.name != name {
				continue
			}
			found = true
			value := reflect.New(reflect.TypeOf(c.value))
			if err := gob.NewDecoder(bytes.NewReader(raw)).DecodeValue(value); err != nil {
				log.Fatal(name, ": ", err)
			}
			// Printed, for an empty slice is as good as none.
			if got, want := fmt.Sprintf("%+v", flat(value)), fmt.Sprintf("%+v", flat(reflect.ValueOf(c.value))); got != want {
				log.Fatalf("%s: got %s, want %s", name, got, want)
			}
		}
		if !found {
			log.Fatal("no case is called ", name)
		}
	}
	if count == 0 {
		log.Fatal("the file has no lines")
	}
	fmt.Println("ok", count, "values")
}

// What a pointer points to, also in Kinds.
func flat(value reflect.Value) any {
	value = reflect.Indirect(value)
	if kinds, ok := value.Interface().(Kinds); ok && kinds.Pointer != nil {
		pointed := *kinds.Pointer
		kinds.Pointer = nil
		return []any{kinds, pointed}
	}
	return value.Interface()
}
