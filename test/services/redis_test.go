package services

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"reuseportd/test/harness"
)

// The connections of a benchmark that moves tokens one by one, of a counter, a
// subscriber and a monitor are the same at the end as at the beginning. The tokens
// are all there, in their order, and other benchmarks come and go.
func TestRedis(t *testing.T) {
	r := StartRedis(t)
	through(t, r.Address(), "tcp: {upstream: behind}", func(t *testing.T, f front) {
		own := DialRedis(t, r.Address())
		own.Do("FLUSHALL")
		host, port, _ := strings.Cut(f.address, ":")
		bench := func(args ...string) *Job {
			return StartJob(t, nil, "redis-benchmark", append([]string{"-h", host, "-p", port}, args...)...)
		}
		counter, subscriber, monitor := DialRedis(t, f.address), DialRedis(t, f.address), DialRedis(t, f.address)
		counter.Do("CLIENT", "SETNAME", "counter")
		subscriber.Do("SUBSCRIBE", "news")

		// Each request waits for a token, and eight wait on each connection.
		const clients, tokens, total = 4, 200, 200 * (changes + 1)
		mover := bench("-c", fmt.Sprint(clients), "-P", "8", "-n", fmt.Sprint(total), "BLMOVE", "todo", "done", "LEFT", "RIGHT", "0")
		harness.Wait(t, "the movers to wait", func() bool {
			mover.WantRunning()
			return strings.Contains(own.Do("INFO", "clients"), fmt.Sprintf("blocked_clients:%d\r", clients))
		})
		monitor.Do("MONITOR")
		before := connections(own)
		for i := range changes + 1 {
			visitor := bench("-q", "-n", "1500", "-c", "3", "-P", "16", "-t", "ping,set,get,incr,lpush,rpop,sadd,hset,mset")
			push := []string{"RPUSH", "todo"}
			for n := range tokens {
				push = append(push, fmt.Sprint(tokens*i+n))
			}
			own.Do(push...)
			counter.Send("INCR", "exact")
			if i < changes {
				f.change(i)
			}
			if got := counter.Answer(); got != fmt.Sprint(2*i+1) {
				t.Fatalf("the counter is %s after change %d, want %d", got, i+1, 2*i+1)
			}
			counter.Do("INCR", "exact")
			own.Do("PUBLISH", "news", fmt.Sprint("edition ", i))
			if got, want := subscriber.Answer(), fmt.Sprintf("message news edition %d", i); got != want {
				t.Fatalf("the subscriber is told %q, want %q", got, want)
			}
			for report := visitor.Wait(); strings.Contains(report, "rror"); {
				t.Fatalf("redis-benchmark: %s", report)
			}
			if now := connections(own); i < changes && !strings.HasPrefix(now, before) {
				t.Fatalf("connections %s after change %d, were %s", now, i+1, before)
			}
		}
		mover.Wait()
		want := make([]string, total)
		for i := range want {
			want[i] = fmt.Sprint(i)
		}
		if got := own.Do("LRANGE", "done", "0", "-1"); got != strings.Join(want, " ") {
			t.Errorf("the tokens aren't as they were: %.200s…", got)
		}
		if got := own.Do("GET", "exact"); got != fmt.Sprint(2*(changes+1)) {
			t.Errorf("the counter is %s at the end, want %d", got, 2*(changes+1))
		}
		increments := 0
		for increments < 2*(changes+1) {
			if strings.HasSuffix(monitor.Answer(), `"INCR" "exact"`) {
				increments++
			}
		}
	})
}

var clientID = regexp.MustCompile(`(?m)^id=(\d+) `)

// connections are the server's, by their numbers, from the oldest on.
func connections(r *RedisClient) string {
	r.t.Helper()
	var ids []int
	for _, m := range clientID.FindAllStringSubmatch(r.Do("CLIENT", "LIST"), -1) {
		id, err := strconv.Atoi(m[1])
		must(r.t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return strings.Trim(fmt.Sprint(ids), "[]")
}
