package acceptbench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reuseportd/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDefaults(t *testing.T) {
	var o Options
	if err := o.Settle(); err != nil {
		t.Fatal(err)
	}
	if o.Loops != runtime.NumCPU() || o.Rounds != 5 || o.Duration != 500*time.Millisecond || o.Connections != 64 ||
		!slices.Equal(o.Only, Strategies()) || !slices.Equal(o.Models, Models()) {
		t.Errorf("%+v", o)
	}
	if n := len(cases(&o)); n != 15 {
		t.Errorf("%d cases", n)
	}
	o = Options{Steering: true, Quick: true, Only: []string{"load", "hash"}}
	if err := o.Settle(); err != nil {
		t.Fatal(err)
	}
	if o.Loops != 4 || o.Rounds != 2 || o.Duration != 2*time.Second || !slices.Equal(o.Only, []string{"hash", "load"}) {
		t.Errorf("%+v", o)
	}
}

func TestWrongOptions(t *testing.T) {
	for want, o := range map[string]Options{
		`--only: unknown strategy "herd": there are reuseport, `:        {Only: []string{"herd"}},
		`--only: unknown strategy "hash": there are`:                    {Only: []string{"hash"}},
		`--only: unknown steering "mutex": there are hash, random, cpu`: {Only: []string{"mutex"}, Steering: true},
		`--models: unknown model "fibres": there are single, `:          {Models: []string{"fibres"}},
		`--duration 1ms: write a time from 20ms to 10m`:                 {Duration: time.Millisecond},
		`--duration 500ms: write a time from 1s`:                        {Duration: 500 * time.Millisecond, Steering: true},
		`--loops 1000: write a number from 1 to 256`:                    {Loops: 1000},
		`--loops 1: with one event loop there is nothing to steer`:      {Loops: 1, Steering: true},
		`--models: with --steering there is only one`:                   {Models: []string{"threads"}, Steering: true},
		`--rounds -1: write a number from 1 to`:                         {Rounds: -1},
		`--rate -5: write a number from 0`:                              {Rate: -5},
		`--connections 1000000: write a number from 1`:                  {Connections: 1000000},
	} {
		if err := o.Settle(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := checkLimit(2000, 1024); err == nil || !strings.Contains(err.Error(), "needs a descriptor limit of 2256, and it is 1024") ||
		!strings.Contains(err.Error(), "at most 768") {
		t.Error(err)
	}
	if err := checkLimit(64, 20); err == nil || strings.Contains(err.Error(), "at most") { // no number is small enough
		t.Error(err)
	}
}

// Every case is a configuration that the server takes.
func TestConfigurations(t *testing.T) {
	for _, steering := range []bool{false, true} {
		for _, loops := range []int{2, 5} {
			o := Options{Loops: loops, Steering: steering}
			if err := o.Settle(); err != nil {
				t.Fatal(err)
			}
			for _, c := range cases(&o) {
				conf, err := config.Parse("bench.yaml", []byte(c.config("127.0.0.1:20000")))
				if err != nil {
					t.Errorf("%+v: %v", c, err)
					continue
				}
				if got := fmt.Sprint(conf.Workers, conf.Threads); got != fmt.Sprint(c.Workers, c.Threads) {
					t.Errorf("%+v: workers and threads are %s", c, got)
				}
				if want := loops; c.Model != "single" && c.Loops() != want || c.Model == "single" && c.Loops() != 1 {
					t.Errorf("%+v has %d loops", c, c.Loops())
				}
			}
		}
	}
}
