// A member of a group in Go: LIBRARY NAME BOOTSTRAP TOPIC GROUP STRATEGY. See ../../README.md for what it prints.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	session   = 6 * time.Second
	heartbeat = time.Second
)

var output sync.Mutex

func say(format string, words ...any) {
	output.Lock()
	defer output.Unlock()
	fmt.Printf("%d %s\n", time.Now().UnixMicro(), fmt.Sprintf(format, words...))
}

func sayPartitions(event string, partitions []int32) {
	say("%s %s", event, strings.Trim(fmt.Sprint(partitions), "[]"))
}

// What a member is asked to do.
type task struct{ name, bootstrap, topic, group, strategy string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	of := task{os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]}
	var err error
	switch os.Args[1] {
	case "franz-go":
		err = franz(ctx, of)
	case "sarama":
		err = withSarama(ctx, of)
	default:
		err = fmt.Errorf("no such library: %s", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
