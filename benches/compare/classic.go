// The classic multithreaded server: a ROUTER-DEALER proxy in front of REP workers that reverse text.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"

	zmq "github.com/pebbe/zmq4"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func worker() {
	socket, err := zmq.NewSocket(zmq.REP)
	must(err)
	must(socket.Connect("inproc://workers"))
	for {
		text, err := socket.RecvBytes(0)
		must(err)
		for i, j := 0, len(text)-1; i < j; i, j = i+1, j-1 {
			text[i], text[j] = text[j], text[i]
		}
		_, err = socket.SendBytes(text, 0)
		must(err)
	}
}

func main() {
	workers, err := strconv.Atoi(os.Args[1])
	must(err)
	clients, err := zmq.NewSocket(zmq.ROUTER)
	must(err)
	backend, err := zmq.NewSocket(zmq.DEALER)
	must(err)
	must(backend.Bind("inproc://workers"))
	for i := 0; i < workers; i++ {
		go worker()
	}
	must(clients.Bind("tcp://127.0.0.1:*"))
	endpoint, err := clients.GetLastEndpoint()
	must(err)
	fmt.Fprintln(os.Stderr, "listening on", endpoint)
	must(zmq.Proxy(clients, backend, nil))
}
