// A proxy as many write it: httputil.ReverseProxy, here with HTTP/2 on both sides.
//
//	proxy [-read-timeout 1s] [-hold] [-http1] 127.0.0.1:8080 127.0.0.1:50051
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
)

func main() {
	readTimeout := flag.Duration("read-timeout", 0, "how old a request may get")
	idleTimeout := flag.Duration("idle-timeout", 0, "how long a connection may have no call")
	hold := flag.Bool("hold", false, "do not pass on each message as it comes")
	http1 := flag.Bool("http1", false, "speak HTTP/1.1 to the server")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: proxy [OPTIONS] LISTEN SERVER")
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: flag.Arg(1)})
	if !*http1 {
		proxy.Transport = &http.Transport{Protocols: protocols}
	}
	if !*hold {
		// Each message as it comes.
		proxy.FlushInterval = -1
	}
	server := &http.Server{
		Addr: flag.Arg(0), Handler: proxy, Protocols: protocols, ReadTimeout: *readTimeout, IdleTimeout: *idleTimeout,
	}
	log.Fatal(server.ListenAndServe())
}
