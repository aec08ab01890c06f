// The server of net/rpc tutorials: server tcp|http|json. Its first line is its address.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
)

type Args struct {
	A, B int
}

type MathService int

func (t *MathService) Multiply(args *Args, reply *int) error {
	*reply = args.A * args.B
	return nil
}

func (t *MathService) Fail(args *Args, reply *int) error {
	return errors.New("it failed")
}

func main() {
	if err := rpc.Register(new(MathService)); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	switch os.Args[1] {
	case "tcp":
		rpc.Accept(listener)
	case "http":
		rpc.HandleHTTP()
		log.Fatal(http.Serve(listener, nil))
	case "json":
		for {
			conn, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go jsonrpc.ServeConn(conn)
		}
	}
}
