package main

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/pion/dtls/v2"
	"github.com/pion/stun"
	"github.com/pion/turn/v2"
)

// REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.9, which this pion cannot ask for by itself.
const attrFamily, familyIPv6 = stun.AttrType(0x0017), 0x02

// count is what one direction carried for peers: by Send and Data indications, and by channels.
type count struct {
	Indications, Channels, Bytes atomic.Int64
}

// wire is the way to the server, for pion a socket that it may send anywhere from: everything goes
// to the server, whatever pion takes its address for (it knows none of IPv6). Counts on the way.
type wire struct {
	net.PacketConn
	server   net.Addr // nil: the connection knows
	password string
	ipv6     bool // ask for a relayed IPv6 address
	up, down count
}

func dial(transport, server string) (net.PacketConn, net.Addr, error) {
	insecure := &tls.Config{InsecureSkipVerify: true} // the certificate of a test
	switch transport {
	case "udp":
		to, err := net.ResolveUDPAddr("udp", server)
		if err != nil {
			return nil, nil, err
		}
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: to.IP})
		return socket, to, err
	case "tcp":
		return stream(net.Dial("tcp", server))
	case "tls":
		connection, err := tls.Dial("tcp", server, insecure)
		return stream(connection, err)
	case "dtls":
		to, err := net.ResolveUDPAddr("udp", server)
		if err != nil {
			return nil, nil, err
		}
		connection, err := dtls.Dial("udp", to, &dtls.Config{InsecureSkipVerify: true})
		return records{connection}, nil, err
	}
	return nil, nil, fmt.Errorf("no transport %q", transport)
}

func stream(connection net.Conn, err error) (net.PacketConn, net.Addr, error) {
	if err != nil {
		return nil, nil, err
	}
	return turn.NewSTUNConn(connection), nil, nil
}

// records is a connection that keeps datagrams whole, as DTLS does.
type records struct{ *dtls.Conn }

func (r records) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := r.Read(p)
	return n, r.RemoteAddr(), err
}

func (r records) WriteTo(p []byte, _ net.Addr) (int, error) { return r.Write(p) }

func (w *wire) WriteTo(p []byte, to net.Addr) (int, error) {
	w.up.see(p)
	if w.server != nil {
		to = w.server
	}
	if w.ipv6 && len(p) >= 20 && binary.BigEndian.Uint16(p) == 0x0003 {
		with, err := w.withFamily(p)
		if err != nil {
			return 0, err
		}
		_, err = w.PacketConn.WriteTo(with, to)
		return len(p), err
	}
	return w.PacketConn.WriteTo(p, to)
}

func (w *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := w.PacketConn.ReadFrom(p)
	w.down.see(p[:n])
	return n, from, err
}

// withFamily is an Allocate request of pion's with one attribute more, signed again.
func (w *wire) withFamily(p []byte) ([]byte, error) {
	pions, ours := &stun.Message{Raw: p}, new(stun.Message)
	if err := pions.Decode(); err != nil {
		return nil, err
	}
	ours.TransactionID, ours.Type = pions.TransactionID, pions.Type
	ours.WriteHeader()
	ours.Add(attrFamily, []byte{familyIPv6, 0, 0, 0})
	for _, attr := range pions.Attributes {
		if attr.Type != stun.AttrMessageIntegrity && attr.Type != stun.AttrFingerprint {
			ours.Add(attr.Type, attr.Value)
		}
	}
	var user stun.Username
	var realm stun.Realm
	if pions.Parse(&user, &realm) == nil {
		key := stun.NewLongTermIntegrity(user.String(), realm.String(), w.password)
		if err := key.AddTo(ours); err != nil {
			return nil, err
		}
	}
	err := stun.Fingerprint.AddTo(ours)
	return ours.Raw, err
}

// see counts a message if it carries data of or for a peer.
func (c *count) see(p []byte) {
	if len(p) >= 4 && p[0]&0xC0 == 0x40 {
		c.Channels.Add(1)
		c.Bytes.Add(int64(binary.BigEndian.Uint16(p[2:])))
		return
	}
	message := &stun.Message{Raw: append([]byte(nil), p...)}
	if !stun.IsMessage(p) || message.Decode() != nil {
		return
	}
	data, err := message.Get(stun.AttrData)
	if err == nil && message.Type.Class == stun.ClassIndication {
		c.Indications.Add(1)
		c.Bytes.Add(int64(len(data)))
	}
}

// addTo adds the figures to a report: packets, bytes, and packets by indications.
func (c *count) addTo(report map[string]any, way string) {
	indications, channels := c.Indications.Load(), c.Channels.Load()
	for key, more := range map[string]int64{
		way + "_packets": indications + channels, way + "_bytes": c.Bytes.Load(),
		way + "_indications": indications, way + "_channels": channels,
	} {
		had, _ := report[key].(int64)
		report[key] = had + more
	}
}
