// Command pion is a TURN client made of pion's: test/interop/pion.py starts it.
//
//	pion -transport udp -server 127.0.0.1:3478 -username U -password P [-ipv6] [-relayed-peer]
//
// It allocates, permits a peer (a socket of its own, or a second allocation), exchanges numbered
// datagrams with it, refreshes the allocation and ends it. It writes one line of JSON: what
// happened, or {"error": text}.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/stun"
	"github.com/pion/turn/v2"
)

const (
	window  = 16 // datagrams under way: far less than any socket buffer holds
	patient = 30 * time.Second
)

type options struct {
	transport, server, username, password, peerIP string
	ipv6, relayedPeer                             bool
	datagrams                                     int
}

// session is a client with its allocation.
type session struct {
	client  *turn.Client
	wire    *wire
	relayed net.PacketConn
	mapped  net.Addr
}

func open(o options) (*session, error) {
	socket, server, err := dial(o.transport, o.server)
	if err != nil {
		return nil, err
	}
	w := &wire{PacketConn: socket, server: server, password: o.password, ipv6: o.ipv6}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: "127.0.0.1:3478", TURNServerAddr: "127.0.0.1:3478", // see wire
		Username: o.username, Password: o.password, Conn: w,
	})
	if err != nil {
		return nil, err
	}
	s := &session{client: client, wire: w}
	if err = client.Listen(); err != nil {
		return nil, err
	}
	if s.mapped, err = client.SendBindingRequest(); err != nil {
		return nil, fmt.Errorf("Binding: %w", err)
	}
	if s.relayed, err = client.Allocate(); err != nil {
		return nil, fmt.Errorf("Allocate: %w", err)
	}
	return s, nil
}

// refresh gives the seconds that the allocation now has. pion does it by itself after minutes only.
func (s *session) refresh(o options, seconds uint32) (uint32, error) {
	lifetime := binary.BigEndian.AppendUint32(nil, seconds)
	ask := func(credentials ...stun.Setter) (*stun.Message, error) {
		message, err := stun.Build(append([]stun.Setter{
			stun.TransactionID, stun.NewType(stun.MethodRefresh, stun.ClassRequest),
			stun.RawAttribute{Type: stun.AttrLifetime, Value: lifetime}}, credentials...)...)
		if err != nil {
			return nil, err
		}
		answer, err := s.client.PerformTransaction(message, s.client.TURNServerAddr(), false)
		return answer.Msg, err
	}
	answer, err := ask()
	if err != nil {
		return 0, err
	}
	var realm stun.Realm
	var nonce stun.Nonce
	if err = answer.Parse(&realm, &nonce); err != nil {
		return 0, err
	}
	user := stun.NewUsername(o.username)
	key := stun.NewLongTermIntegrity(o.username, realm.String(), o.password)
	if answer, err = ask(user, realm, nonce, key, stun.Fingerprint); err != nil {
		return 0, err
	}
	granted, err := answer.Get(stun.AttrLifetime)
	if err != nil || answer.Type.Class != stun.ClassSuccessResponse {
		return 0, fmt.Errorf("Refresh: %s", answer)
	}
	return binary.BigEndian.Uint32(granted), key.Check(answer)
}

// exchange sends `count` numbered datagrams to a peer, a window ahead of what comes from there;
// gives how many different ones came.
func exchange(conn net.PacketConn, peer net.Addr, count int) (int, error) {
	got, buffer := map[int]bool{}, make([]byte, 2048)
	if err := conn.SetReadDeadline(time.Now().Add(patient)); err != nil {
		return 0, err
	}
	receive := func() error {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(string(buffer[:8]))
		if err != nil || n != 8+number%900 || from.String() != peer.String() {
			return fmt.Errorf("%d bytes that nobody sent, from %s", n, from)
		}
		got[number] = true
		return nil
	}
	for number := 0; number < count || len(got) < count; {
		if number < count && number-len(got) < window {
			datagram := append([]byte(fmt.Sprintf("%08d", number)), make([]byte, number%900)...)
			if _, err := conn.WriteTo(datagram, peer); err != nil {
				return len(got), err
			}
			number++
		} else if err := receive(); err != nil {
			return len(got), fmt.Errorf("%w; missing %v", err, missing(got, count))
		}
	}
	return len(got), nil
}

// missing gives the first of those that did not come.
func missing(got map[int]bool, count int) (numbers []int) {
	for number := 0; number < count && len(numbers) < 9; number++ {
		if !got[number] {
			numbers = append(numbers, number)
		}
	}
	return
}

// meet lets the session and its peer exchange datagrams; gives how many each got.
func meet(s *session, peer net.PacketConn, count int) ([2]int, error) {
	type result struct {
		got int
		err error
	}
	done := make(chan result)
	go func() {
		got, err := exchange(peer, s.relayed.LocalAddr(), count)
		done <- result{got, err}
	}()
	got, err := exchange(s.relayed, peer.LocalAddr(), count)
	other := <-done
	if err == nil {
		err = other.err
	}
	return [2]int{got, other.got}, err
}

// peerOf gives the other end, and the second session if that is one.
func peerOf(s *session, o options) (net.PacketConn, *session, error) {
	if !o.relayedPeer {
		ip := s.relayed.LocalAddr().(*net.UDPAddr).IP // on a host that relays to itself
		if o.peerIP != "" {
			ip = net.ParseIP(o.peerIP)
		}
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip})
		return socket, nil, err
	}
	other, err := open(o)
	if err != nil {
		return nil, nil, err
	}
	return other.relayed, other, other.client.CreatePermission(s.relayed.LocalAddr())
}

func run(o options) (map[string]any, error) {
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	peer, other, err := peerOf(s, o)
	if err != nil {
		return nil, err
	}
	if err = s.client.CreatePermission(peer.LocalAddr()); err != nil {
		return nil, err
	}
	got, err := meet(s, peer, o.datagrams)
	if err != nil {
		return nil, fmt.Errorf("after %d and %d datagrams: %w", got[0], got[1], err)
	}
	sessions := []*session{s}
	if other != nil {
		sessions = append(sessions, other)
	}
	report := map[string]any{"got": got, "mapped": s.mapped.String(), "relayed": []string{}}
	for _, each := range sessions {
		lifetime, err := each.refresh(o, 900)
		if err != nil {
			return nil, err
		}
		report["lifetime"] = lifetime
		report["relayed"] = append(report["relayed"].([]string), each.relayed.LocalAddr().String())
		each.wire.up.addTo(report, "up")
		each.wire.down.addTo(report, "down")
	}
	return report, closeAll(sessions)
}

func closeAll(sessions []*session) error {
	for _, s := range sessions {
		if err := s.relayed.Close(); err != nil {
			return err
		}
		s.client.Close()
	}
	return nil
}

func parse() options {
	var o options
	flag.StringVar(&o.transport, "transport", "udp", "udp, tcp, tls or dtls")
	flag.StringVar(&o.server, "server", "", "IP:PORT")
	flag.StringVar(&o.username, "username", "", "")
	flag.StringVar(&o.password, "password", "", "")
	flag.BoolVar(&o.ipv6, "ipv6", false, "ask for a relayed IPv6 address")
	flag.BoolVar(&o.relayedPeer, "relayed-peer", false, "the peer is a second allocation")
	flag.StringVar(&o.peerIP, "peer-ip", "", "where the peer is; as a rule where it is relayed")
	flag.IntVar(&o.datagrams, "datagrams", 1000, "how many to send each way")
	flag.Parse()
	return o
}

func main() {
	report, err := run(parse())
	status := 0
	if err != nil {
		report, status = map[string]any{"error": err.Error()}, 1
	}
	json.NewEncoder(os.Stdout).Encode(report)
	os.Exit(status)
}
