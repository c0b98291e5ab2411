package acceptbench

// Explain says how the strategies' table is made. It is printed below the table, and in
// the command's help.
const Explain = `How it is measured: every round starts a server of its own, master and workers, and every case has its round before
any has the next one. Figures are medians of the rounds.
  churn   --connections clients, each again and again: connect, one request with Connection: close, answer, close
  kept    the same clients with one connection each, request after request
  paced   connections as in churn, but at a fixed rate that leaves event loops idle at times: only who waits can be
          woken, so this load shows the herd; a latency counts from the time at which its connection was due
  µs each     CPU time of master and workers for each connection or request; CPU % is the same of one CPU
  switches    context switches of all their threads
  wake-ups    times that a waiting event loop was woken; useful are those for anything but a connection that was gone
  failed      accepts that found no connection, or an error
  ≈           within noise: the ranges (lowest…highest round) of the two cases overlap; ? needs three rounds at least
reuseport+exclusive has half as many shards as event loops. With two loops that is one shard, as in exclusive; with one
event loop (single) all strategies are alike but for what each costs by itself.
`

// ExplainSteering is the same for the table of steerings.
const ExplainSteering = `How it is measured: every round starts a server of its own, and every steering has its round before any has the next
one. The first worker is stopped (SIGSTOP) for 200 ms in every second. Connections come at a fixed rate, each with one
request; a latency counts from the time at which its connection was due, so that a server that stands still can't hide it.
Figures are medians of the rounds. variation is the standard deviation of the workers' accepted connections over their
mean. ≈ is within noise: the ranges (lowest…highest round) overlap; ? needs three rounds at least.
`
