package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestTrace replays the records behind the handshake of RFC 8448 section 3: each side opens what the other has sealed there,
// and seals the same.
func TestTrace(t *testing.T) {
	raw := func(s string) []byte {
		b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	clients := raw("9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5")
	servers := raw("a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643")
	ticket := raw(`17030300de 3a6b8f90414a97d6959c3487680de513 4a2b240e6cffac116e95d41d6af8f6b5 80dcf3d11d63c758db289a015940252f
		55713e061dc13e078891a38efbcf5753 ad8ef170ad3c7353d16d9da773b9ca7f 2b9fa1b6c0d4a3d03f75e09c30ba1e62 972ac46f75f7b981be63439b2999ce13
		064615139891d5e4c5b406f16e3fc181 a77ca475840025db2f0a77f81b5ab05b 94c01346755f69232c86519d86cbeeac 87aac347d143f9605d64f650db4d023e
		70e952ca49fe5137121c74bc2697687e 248746d6df353005f3bce18696129c81 53556b3b6c6779b37bf15985684f`)
	clientData := raw(`1703030043 a23f7054b62c94d0affafe8228ba55cb efacea42f914aa66bcab3f2b9819a8a5 b46b395bd54a9a20441e2b62974e1f5a
		6292a2977014bd1e3deae63aeebb2169 4915e4`)
	serverData := raw(`1703030043 2e937e11ef4ac740e538ad36005fc4a4 6932fc3225d05f82aa1b36e30efaf97d 90e6dffc602dcb501a59a8fcc49c4bf2
		e5f0a21c0047c2abf332540dd032e167 c2955d`)
	clientEnd, serverEnd := raw("1703030013 c9872760655666b74d7ff1153efd6db6d0b0e3"), raw("1703030013 b58fd67166ebf599d24720cfbe7efa7a8864a9")
	data := make([]byte, 50)
	for i := range data {
		data[i] = byte(i)
	}

	k := Keys{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Client: true, In: servers, Out: clients}
	client, err := New(k, new(Room))
	if err != nil {
		t.Fatal(err)
	}
	k.Client, k.In, k.Out = false, clients, servers
	server, err := New(k, new(Room))
	if err != nil {
		t.Fatal(err)
	}
	twin, err := New(Keys{Version: k.Version, Suite: k.Suite, Client: true, In: servers, Out: clients}, new(Room))
	if err != nil {
		t.Fatal(err)
	}
	kind, message, _, why := twin.open(ticket[0], bytes.Clone(ticket))
	if kind != typeHandshake || len(message) != 205 || message[0] != typeNewSessionTicket {
		t.Fatalf("the ticket: kind %d, %d bytes, %s", kind, len(message), why)
	}

	counted, err := New(k, new(Room))
	if err != nil {
		t.Fatal(err)
	}
	if counted.SkipWritten(ticket); counted.out.seq != 1 {
		t.Errorf("the ticket was record %d", counted.out.seq)
	}
	for _, s := range []struct {
		what      string
		from, to  *Conn
		got, want []byte
		text      []byte
		end       error
	}{
		{"the ticket", server, client, server.seal(nil, typeHandshake, message, nil), ticket, nil, nil},
		{"the client's data", client, server, client.Seal(nil, data[:20], data[20:]), clientData, data, nil},
		{"the server's data", server, client, server.Seal(nil, data, nil), serverData, data, nil},
		{"the client's end", client, server, client.End(nil), clientEnd, nil, io.EOF},
		{"the server's end", server, client, server.End(nil), serverEnd, nil, io.EOF},
	} {
		if !bytes.Equal(s.got, s.want) {
			t.Errorf("%s is sealed as %x, want %x", s.what, s.got, s.want)
		}
		if text, said, err := open(t, s.to, bytes.Clone(s.want)); !bytes.Equal(text, s.text) || len(said) > 0 || !errors.Is(err, s.end) {
			t.Errorf("%s: opened is %x, said %x, %v", s.what, text, said, err)
		}
	}
}
