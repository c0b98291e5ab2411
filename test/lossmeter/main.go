// Command lossmeter counts what the clients of a server lose while somebody
// reloads, upgrades or kills it.
//
//	go run ./test/lossmeter -http 127.0.0.1:8080 -echo 127.0.0.1:7007 -duration 10s
//
// It works against any HTTP/1.1 server whose answer doesn't change meanwhile
// (-body any lets it change). It ends with status 1 if anything was lost and 2
// if there was nothing to measure; SIGINT ends it early, with its report.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"reuseportd/test/meter"
)

func main() { os.Exit(run()) }

func run() int {
	cfg := meter.Defaults("?", "?") // the defaults of flags
	httpAddr := flag.String("http", "", "`address` of an HTTP service: HOST:PORT or unix:PATH")
	echoAddr := flag.String("echo", "", "`address` of an echo service")
	duration := flag.Duration("duration", 10*time.Second, "how long to measure")
	losses := flag.Int("losses", 20, "how many losses to print in detail")
	body := flag.String("body", "learn", "`learn`: every answer must be as the first; any: every answer below 500 will do")
	paths := flag.String("paths", "/", "comma-separated `paths` to ask for; with different answers, the order of pipelined ones is checked")
	flag.IntVar(&cfg.Fresh, "fresh", cfg.Fresh, "clients that connect for each request")
	flag.IntVar(&cfg.Kept, "kept", cfg.Kept, "clients that send on kept connections")
	flag.IntVar(&cfg.Halves, "halves", cfg.Halves, "clients that send requests in two halves")
	flag.IntVar(&cfg.Pipeline, "pipeline", cfg.Pipeline, "clients that send several requests at once")
	flag.IntVar(&cfg.Stream, "stream", cfg.Stream, "echo streams at a time")
	flag.IntVar(&cfg.Burst, "burst", cfg.Burst, "connects at once in each burst")
	flag.IntVar(&cfg.Idle, "idle", 0, "connections that send one request at the start and one at the end")
	flag.IntVar(&cfg.Download, "download", 0, "clients that fetch -download-path slowly")
	flag.StringVar(&cfg.DownloadPath, "download-path", "/", "`path` of a large file")
	flag.StringVar(&cfg.DownloadFile, "download-file", "", "the same `file` on this machine, to compare every byte")
	flag.IntVar(&cfg.DownloadRate, "download-rate", 1<<20, "bytes a second of each download at most; it lasts to the end in any case")
	flag.BoolVar(&cfg.Strict, "strict", false, "Connection: close is a loss, too: for a server that hands its connections over")
	flag.IntVar(&cfg.FreshRate, "fresh-rate", 400, "connects a second over all fresh clients")
	flag.DurationVar(&cfg.KeptPause, "kept-pause", 5*time.Millisecond, "pause between two requests on a kept connection; longer than the server's keep-alive timeout, its ends are losses")
	flag.DurationVar(&cfg.StreamLife, "stream-life", 5*time.Second, "longest life of an echo stream; the first lives to the end")
	flag.DurationVar(&cfg.Timeout, "timeout", 5*time.Second, "bound on each connect, write and read")
	flag.Uint64Var(&cfg.Seed, "seed", 0, "of random choices and streams; 0 takes the time")
	flag.Parse()
	if flag.NArg() > 0 || *httpAddr == "" && *echoAddr == "" || *body != "learn" && *body != "any" {
		flag.Usage()
		return 2
	}
	cfg.HTTP, cfg.Echo, cfg.Paths = *httpAddr, *echoAddr, strings.Split(*paths, ",")
	if *body == "any" {
		cfg.Check = func(_ string, status int, _ []byte) error {
			if status >= 500 {
				return fmt.Errorf("status %d", status)
			}
			return nil
		}
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m, err := meter.Start(ctx, cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	select {
	case <-ctx.Done():
	case <-time.After(*duration):
	}
	r := m.Stop()
	r.Print(os.Stdout, *losses)
	if r.Lost() > 0 {
		return 1
	}
	return 0
}
