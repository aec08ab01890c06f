// The client of net/rpc tutorials, each call checked: client tcp|http|json ADDRESS.
package main

import (
	"fmt"
	"log"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
)

type Args struct {
	A, B int
}

type Text struct {
	A string
}

type Other struct {
	C int
}

func dial(transport, address string) (*rpc.Client, error) {
	switch transport {
	case "http":
		return rpc.DialHTTP("tcp", address)
	case "json":
		return jsonrpc.Dial("tcp", address)
	}
	return rpc.Dial("tcp", address)
}

func main() {
	transport := os.Args[1]
	client, err := dial(transport, os.Args[2])
	if err != nil {
		log.Fatal("dial: ", err)
	}

	var product int
	if err := client.Call("MathService.Multiply", &Args{7, 8}, &product); err != nil || product != 56 {
		log.Fatal("7 times 8: ", product, " ", err)
	}
	// A zero is not on the wire.
	if err := client.Call("MathService.Multiply", Args{0, -8}, &product); err != nil || product != 0 {
		log.Fatal("0 times -8: ", product, " ", err)
	}

	// The asynchronous call: all are open at a time, and answers may overtake.
	done := make(chan *rpc.Call, 1000)
	for i := 0; i < 1000; i++ {
		client.Go("MathService.Multiply", &Args{i, -i}, new(int), done)
	}
	for i := 0; i < 1000; i++ {
		call := <-done
		if n := call.Args.(*Args).A; call.Error != nil || *call.Reply.(*int) != -n*n {
			log.Fatal(n, ": ", call.Error)
		}
	}

	refused := func(method string, args any, wanted string) {
		err := client.Call(method, args, new(int))
		if err == nil || err.Error() != wanted {
			log.Fatalf("%s: %v, want %s", method, err, wanted)
		}
	}
	refused("MathService.Nope", &Args{1, 2}, "rpc: can't find method MathService.Nope")
	refused("Nope.Multiply", &Args{1, 2}, "rpc: can't find service Nope.Multiply")
	refused("Nope", &Args{1, 2}, "rpc: service/method request ill-formed: Nope")
	if transport == "json" {
		refused("MathService.Multiply", &Text{"x"}, "json: cannot unmarshal string into Go struct field Args.A of type int")
		refused("MathService.Multiply", "x", "json: cannot unmarshal string into Go value of type "+os.Args[3]+"Args")
	} else {
		refused("MathService.Multiply", &Text{"x"}, "gob: wrong type (int) for received field Text.A")
		refused("MathService.Multiply", &Other{1}, "gob: type mismatch: no fields matched compiling decoder for Args")
		refused("MathService.Multiply", "x", "gob: type mismatch in decoder: want struct type "+os.Args[3]+"Args; got non-struct")
	}
	if len(os.Args) > 4 {
		refused("MathService.Multiply", &Args{1 << 62, 2}, os.Args[4])
	}

	// The connection has outlived all that.
	if err := client.Call("MathService.Multiply", &Args{6, 7}, &product); err != nil || product != 42 {
		log.Fatal("6 times 7: ", product, " ", err)
	}
	if err := client.Close(); err != nil {
		log.Fatal("close: ", err)
	}
	fmt.Println("ok", transport)
}
