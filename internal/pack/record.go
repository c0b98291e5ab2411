package pack

// Record writes or reads a sequence of values: the same calls, in the same order, do both, so that no
// two places have to agree on the order. When reading, each number is bounded; after a failure all
// further values are left as they are, so that it is enough to check End.
type Record struct {
	out     []byte
	in      Reader
	reading bool
}

// Writing returns a record that appends to b.
func Writing(b []byte) *Record { return &Record{out: b} }

// Reading returns a record that reads b, which must not change meanwhile.
func Reading(b []byte) *Record { return &Record{in: Reader{rest: b}, reading: true} }

// Reads reports whether the record is being read.
func (r *Record) Reads() bool { return r.reading }

// Int writes or reads a number from 0 to limit, of at most 63 bits.
func (r *Record) Int(v *int, limit int) {
	n := int64(*v)
	r.Int64(&n, int64(limit))
	*v = int(n)
}

// Int64 writes or reads a number from 0 to limit.
func (r *Record) Int64(v *int64, limit int64) {
	if !r.reading {
		r.out = Uint(r.out, uint64(*v))
	} else if n := r.in.Int(int(limit)); !r.in.bad {
		*v = int64(n)
	}
}

// Bool writes or reads 0 or 1.
func (r *Record) Bool(v *bool) {
	n := 0
	if *v {
		n = 1
	}
	r.Int(&n, 1)
	*v = n == 1
}

// Bytes writes or reads a byte string. One that is read is a slice of the input.
func (r *Record) Bytes(v *[]byte) {
	if !r.reading {
		r.out = Bytes(r.out, *v)
	} else if p := r.in.Bytes(); !r.in.bad {
		*v = p
	}
}

// Written returns what was written, appended to Writing's argument.
func (r *Record) Written() []byte { return r.out }

// Rest returns what has not been read.
func (r *Record) Rest() []byte { return r.in.rest }

// Err returns ErrMalformed if a value has been missing or out of bounds so far.
func (r *Record) Err() error { return r.in.Err() }

// End is like Err, but also returns ErrMalformed if something is left.
func (r *Record) End() error { return r.in.End() }
