// A proxy as many write it: httputil.ReverseProxy, here with HTTP/2 on both sides.
//
//	proxy 127.0.0.1:8080 127.0.0.1:50051
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: proxy LISTEN SERVER")
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: os.Args[2]})
	proxy.Transport = &http.Transport{Protocols: protocols}
	// Each message as it comes.
	proxy.FlushInterval = -1
	server := &http.Server{Addr: os.Args[1], Handler: proxy, Protocols: protocols}
	log.Fatal(server.ListenAndServe())
}
