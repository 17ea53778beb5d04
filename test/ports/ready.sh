# Sends the frame of
#   {ready, #{os_pid => 1, listen => [<<"udp:127.0.0.1:9">>], version => <<"0">>, protocol => 1,
#             relays => [], workers => 1, udp => uv}}
# as term_to_binary/1 has it, after its length in 4 bytes.
printf '\000\000\000\174\203h\002d\000\005readyt\000\000\000\007d\000\006listenl\000\000' >&4
printf '\000\001m\000\000\000\017udp:\061\062\067.\060.\060.\061:\071jd\000\006os_pida' >&4
printf '\001d\000\010protocola\001d\000\006relaysjd\000\003udpd\000\002uvd\000\007versio' >&4
printf 'nm\000\000\000\001\060d\000\007workersa\001' >&4
