// The scenario of ../README.md with zishang520's Go client: URL MODE NAME.
package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	"github.com/zishang520/socket.io/clients/engine/v3/transports"
	"github.com/zishang520/socket.io/clients/socket/v3"
	sio "github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

const text = "naïve ☃ 🜁"

var (
	content = []byte{0, 16, 255}
	printer sync.Mutex
)

func report(line string) {
	printer.Lock()
	defer printer.Unlock()
	fmt.Println(line)
}

func check(step string, holds bool) {
	if !holds {
		step = "failed: " + step
	}
	report(step)
}

func isContent(value any) bool {
	reader, ok := value.(interface{ Bytes() []byte })
	return ok && bytes.Equal(reader.Bytes(), content)
}

func isNumber(value any, number float64) bool {
	got, ok := value.(float64)
	return ok && got == number
}

func playOnce(client *socket.Socket) {
	client.Emit("echo", text, 7, map[string]any{"a": []int{1}}, content, sio.Ack(func(args []any, _ error) {
		object, ok := args[2].(map[string]any)
		check("echo", args[0] == text && isNumber(args[1], 7) && ok &&
			fmt.Sprint(object) == "map[a:[1]]" && isContent(args[3]))
	}))
	client.Emit("ask", content, sio.Ack(func(args []any, _ error) {
		check("answered", len(args) == 2 && args[0] == "answer" && isContent(args[1]))
	}))
	other := client.Io().Socket("/other", nil)
	other.Emit("echo", 1, sio.Ack(func(args []any, _ error) {
		check("namespace", len(args) == 2 && args[0] == "other" && isNumber(args[1], 1))
	}))
}

func main() {
	address, mode, name := os.Args[1], os.Args[2], os.Args[3]
	options := socket.DefaultOptions()
	switch mode {
	case "polling":
		options.SetTransports(types.NewSet(transports.Polling))
	case "websocket":
		options.SetTransports(types.NewSet(transports.WebSocket))
	default:
		options.SetTransports(types.NewSet(transports.Polling, transports.WebSocket))
	}
	options.SetQuery(url.Values{"name": {name}})
	options.SetReconnectionDelay(50)
	options.SetReconnectionDelayMax(200)
	manager := socket.NewManager(address, options)
	client := manager.Socket("/", options)
	var connects atomic.Int32
	client.On("question", func(args ...any) {
		check("asked", isContent(args[0]))
		args[len(args)-1].(sio.Ack)([]any{"answer", content}, nil)
	})
	client.On("bytes", func(args ...any) { check("bytes", isContent(args[0])) })
	client.On("news", func(args ...any) { report(fmt.Sprintf("news %v", args[0])) })
	client.On("job", func(args ...any) {
		args[len(args)-1].(sio.Ack)(nil, nil)
		report(fmt.Sprintf("job %v", args[0]))
	})
	client.On("connect", func(...any) {
		report("connected")
		if connects.Add(1) == 1 {
			playOnce(client)
		}
	})
	client.Connect()
	select {}
}
