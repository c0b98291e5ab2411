package eventloop

// luck remembers whether an attempt that costs a system call has paid of late.
type luck int8

const maxLuck = 8

// was records an attempt.
func (k *luck) was(good bool) {
	if good {
		*k = min(*k+1, maxLuck)
	} else {
		*k = max(*k-1, -maxLuck)
	}
}

// pays reports whether attempts have succeeded more often than not. When they have not,
// one occasion in sixteen, by its number, is still taken.
func (k luck) pays(occasion uint64) bool { return k >= 0 || occasion%16 == 0 }
