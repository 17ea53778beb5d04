%% The NIF as Erlang projects use it: the wire, credentials, bad arguments, and code that is loaded
%% again while it is in use. The Elixir tests look at the same functions more closely.
-module(cromulent_turn_nif_tests).

-include_lib("eunit/include/eunit.hrl").

-define(NIF, cromulent_turn_nif).
-define(KEY, <<"VOkJxbRl1RmTxUk/WvJxBt">>).

%% RFC 5769 section 2.1, with zeros for padding and what follows from that.
message() ->
    #{
        class => request,
        method => binding,
        transaction_id => <<16#B7E7A701BC34D686FA87DFAE:96>>,
        attributes => [
            {software, <<"STUN test client">>},
            {priority, 16#6E0001FF},
            {ice_controlled, 16#932FF9B151263B36},
            {username, <<"evtj:h6vY">>}
        ]
    }.

rfc5769_test() ->
    %% Section 2.2: its padding is a blank, which is as good as any.
    Packet = binary:decode_hex(<<
        "0101003C2112A442B7E7A701BC34D686FA87DFAE8022000B7465737420766563"
        "746F7220002000080001A147E112A643000800142B91F599FD9E90C38C7489F9"
        "2AF9BA53F06BE7D780280004C07D4C96"
    >>),
    {ok, Message} = ?NIF:stun_decode(Packet),
    ?assertMatch(
        #{
            class := success,
            method := binding,
            transaction_id := <<16#B7E7A701BC34D686FA87DFAE:96>>,
            attributes := [
                {software, <<"test vector">>},
                {xor_mapped_address, {{192, 0, 2, 1}, 32853}},
                {message_integrity, <<_:160>>},
                {fingerprint, 16#C07D4C96}
            ],
            ignored := []
        },
        Message
    ),
    ?assertEqual(ok, ?NIF:stun_verify(Packet, ?KEY, sha1)),
    ?assertEqual({error, {bad_integrity, 52}}, ?NIF:stun_verify(Packet, <<"x">>, sha1)),
    ?assertEqual({error, {missing, 80}}, ?NIF:stun_verify(Packet, ?KEY, sha256)).

encode_test() ->
    #{attributes := Attributes} = message(),
    {ok, Plain} = ?NIF:stun_decode(?NIF:stun_encode(message())),
    ?assertEqual((message())#{ignored => []}, Plain),
    Options = #{integrity => [{sha1, ?KEY}, {sha256, ?KEY}], fingerprint => true},
    Packet = ?NIF:stun_encode(message(), Options),
    ?assertEqual(ok, ?NIF:stun_verify(Packet, ?KEY, sha1)),
    ?assertEqual(ok, ?NIF:stun_verify(Packet, ?KEY, sha256)),
    {ok, #{attributes := Signed}} = ?NIF:stun_decode(Packet),
    ?assertEqual(
        [message_integrity, message_integrity_sha256, fingerprint],
        [Name || {Name, _} <- Signed -- Attributes]
    ).

bad_packets_test_() ->
    Header = <<16#0001:16, 0:16, 16#2112A442:32, 0:96>>,
    [
        ?_assertEqual({error, Error}, ?NIF:stun_decode(Packet))
     || {Packet, Error} <- [
            {<<>>, {truncated, 0}},
            {<<16#80, (binary:part(Header, 1, 19))/binary>>, {not_stun, 0}},
            {<<1:16, 0:16, 0:128>>, {bad_cookie, 4}},
            {<<1:16, 2:16, 16#2112A442:32, 0:96, 0:16>>, {bad_length, 2}},
            {<<Header/binary, 0:32>>, {bad_length, 20}},
            {<<1:16, 4:16, 16#2112A442:32, 0:96, 6:16, 8:16>>, {attribute_overrun, 20}},
            {<<1:16, 8:16, 16#2112A442:32, 0:96, 16#8028:16, 4:16, 0:32>>, {bad_fingerprint, 20}},
            {<<1:16, 8:16, 16#2112A442:32, 0:96, 13:16, 3:16, 0:32>>, {bad_value, 24}}
        ]
    ].

badarg_test_() ->
    M = message(),
    Calls = [
        {stun_decode, [a]},
        {stun_decode, [<<1:7>>]},
        {stun_parts, [[]]},
        {stun_encode, [M#{class := reply}]},
        {stun_encode, [M#{attributes := [{lifetime, a}]}]},
        {stun_encode, [maps:remove(method, M)]},
        {stun_encode, [M, #{fingerprint => 1}]},
        {stun_encode, [M, #{integrity => [{sha1, a}]}]},
        {stun_encode, [M, #{integrity => {sha1, ?KEY}}]},
        {stun_encode, [M, #{finger_print => true}]},
        {stun_encode, [M, []]},
        {stun_build, [request, binding, <<0:96>>, [], [{sha1, ?KEY} | x], false]},
        {stun_build, [request, binding, <<0:95>>, [], [], false]},
        {stun_verify, [<<>>, ?KEY, sha]},
        {stun_verify, [<<>>, key, sha1]},
        {channel_data_encode, [16#3FFF, <<>>, false]},
        {channel_data_encode, [16#4000, <<>>, no]},
        {channel_data_encode, [16#4000, [<<"abc">>], false]},
        {channel_data_encode, [16#4000, binary:copy(<<0>>, 65536), false]},
        {channel_data_decode, [1]},
        {frame_size, [1]},
        {rest_credential, [md5, <<"s">>, <<"u">>, 0]},
        {rest_credential, [sha, <<>>, <<"u">>, 0]},
        {rest_credential, [sha, <<"s">>, <<"u\n">>, 0]},
        {rest_credential, [sha, <<"s">>, <<"u">>, -1]},
        {rest_credential, [sha, binary:copy(<<"s">>, 1025), <<"u">>, 0]},
        {rest_verify, [sha, [], <<"1">>, <<>>, 0]},
        {rest_verify, [sha, <<"s">>, <<"1">>, <<>>, 0]},
        {rest_verify, [sha, [<<"s">> | x], <<"1">>, <<>>, 0]},
        {rest_verify, [sha, lists:duplicate(17, <<"s">>), <<"1">>, <<>>, 0]},
        {rest_verify, [sha, [<<"s">>], <<"1">>, <<>>, 0.5]},
        {long_term_key, [sha, <<"u">>, <<"r">>, <<"p">>]},
        {long_term_key, [md5, u, <<"r">>, <<"p">>]},
        {userhash, [<<"u">>, r]},
        {equal, [<<>>, a]}
    ],
    [?_assertError(badarg, apply(?NIF, F, Args)) || {F, Args} <- Calls].

channel_data_test() ->
    ?assertEqual(<<16#4000:16, 3:16, "abc">>, ?NIF:channel_data_encode(16#4000, <<"abc">>, false)),
    ?assertEqual(<<16#4000:16, 3:16, "abc", 0>>, ?NIF:channel_data_encode(16#4000, <<"abc">>, true)),
    ?assertEqual({ok, {16#4FFF, <<"a">>}}, ?NIF:channel_data_decode(<<16#4FFF:16, 1:16, "abc">>)),
    ?assertEqual({error, {truncated, 5}}, ?NIF:channel_data_decode(<<16#4FFF:16, 2:16, "a">>)),
    ?assertEqual({error, {bad_channel, 0}}, ?NIF:channel_data_decode(<<16#5000:16, 0:16>>)),
    ?assertEqual(more, ?NIF:frame_size(<<16#40>>)),
    ?assertEqual({ok, 8}, ?NIF:frame_size(<<16#4000:16, 3:16>>)),
    ?assertEqual({error, {not_stun, 0}}, ?NIF:frame_size(<<255>>)).

credentials_test() ->
    Credential = {<<"1700000000:alice">>, <<"Cd/49soE35ICqcJF/bCTn8Z4OyE=">>},
    ?assertEqual(Credential, ?NIF:rest_credential(sha, <<"north">>, <<"alice">>, 1700000000)),
    {Username, Password} = Credential,
    Verify = fun(Secrets, Now) -> ?NIF:rest_verify(sha, Secrets, Username, Password, Now) end,
    ?assertEqual(ok, Verify([<<"south">>, <<"north">>], 1699999999)),
    ?assertEqual({error, expired}, Verify([<<"north">>], 1700000000)),
    ?assertEqual({error, invalid}, Verify([<<"south">>], 0)),
    ?assertEqual({error, malformed}, ?NIF:rest_verify(sha, [<<"s">>], <<"alice">>, <<>>, 0)),
    ?assertEqual(
        binary:decode_hex(<<"8493FBC53BA582FB4C044C456BDC40EB">>),
        ?NIF:long_term_key(md5, <<"user">>, <<"realm">>, <<"pass">>)
    ),
    ?assertEqual(crypto:hash(sha256, <<"user:realm">>), ?NIF:userhash(<<"user">>, <<"realm">>)),
    ?assert(?NIF:equal(<<"abc">>, <<"abc">>)),
    ?assertNot(?NIF:equal(<<"abc">>, <<"abd">>)).

%% Old and new code side by side, while processes call whichever is the newest.
upgrade_test_() ->
    {timeout, 60, fun() ->
        Workers = [spawn_monitor(fun work/0) || _ <- lists:seq(1, 4)],
        [reload() || _ <- lists:seq(1, 10)],
        [Pid ! stop || {Pid, _} <- Workers],
        Calls = [
            receive
                {'DOWN', Ref, process, Pid, {done, N}} -> N;
                {'DOWN', Ref, process, Pid, Reason} -> error({worker, Reason})
            after 10000 -> error(worker_hangs)
            end
         || {Pid, Ref} <- Workers
        ],
        ?assert(lists:all(fun(N) -> N > 0 end, Calls)),
        credentials_test(),
        encode_test()
    end}.

reload() ->
    wait_until(fun() -> code:soft_purge(?NIF) end),
    ?assertEqual({module, ?NIF}, code:load_file(?NIF)),
    ?assert(erlang:check_old_code(?NIF)),
    rfc5769_test(),
    %% The old library goes with the old code.
    wait_until(fun() -> code:soft_purge(?NIF) end),
    ?assertNot(erlang:check_old_code(?NIF)),
    rfc5769_test().

work() ->
    work(0).

work(N) ->
    credentials_test(),
    encode_test(),
    Big = binary:copy(<<"x">>, 20000),
    Long = ?NIF:stun_encode((message())#{attributes := [{data, Big}]}, #{integrity => [{sha256, ?KEY}]}),
    ok = ?NIF:stun_verify(Long, ?KEY, sha256),
    erlang:yield(),
    receive
        stop -> exit({done, N + 1})
    after 0 -> work(N + 1)
    end.

wait_until(Fun) ->
    wait_until(Fun, erlang:monotonic_time(millisecond) + 10000).

wait_until(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            erlang:yield(),
            wait_until(Fun, Deadline)
    end.

%% Where the library is looked for: in BEAMs of their own, which have nothing but this module.
priv_dir_test_() ->
    Beam = code:which(?NIF),
    Library = library(),
    {setup, fun temporary_dir/0, fun(Dir) -> file:del_dir_r(Dir) end, fun(Dir) ->
        Ebin = filename:join([Dir, "some where", "ebin"]),
        Priv = filename:join([Dir, "some where", "priv"]),
        Other = filename:join(Dir, "other"),
        copy(Beam, Ebin),
        Loaded = fun(Env) -> loads(Ebin, Env) end,
        {inorder, [
            {"nowhere", slowly(fun() -> ?assertMatch({false, _}, Loaded([])) end)},
            {"CROMULENT_TURN_PRIV",
                slowly(fun() ->
                    copy(Library, Other),
                    ?assertEqual(true, Loaded([{"CROMULENT_TURN_PRIV", Other}]))
                end)},
            {"beside the module's directory",
                slowly(fun() ->
                    copy(Library, Priv),
                    ?assertEqual(true, Loaded([])),
                    ?assertEqual(true, Loaded([{"CROMULENT_TURN_PRIV", ""}]))
                end)},
            {"CROMULENT_TURN_PRIV has no second",
                slowly(fun() ->
                    Said = fun() ->
                        {false, Text} = Loaded([{"CROMULENT_TURN_PRIV", Dir}]),
                        %% The logger breaks long lines, and long strings with them.
                        string:find(squeeze(Text), squeeze(Dir)) =/= nomatch
                    end,
                    %% A BEAM that stops at once may not write what was logged last.
                    ?assert(Said() orelse Said() orelse Said())
                end)}
        ]}
    end}.

%% A BEAM takes its time to start and to stop.
slowly(Test) -> {timeout, 60, Test}.

library() ->
    Name = "cromulent_turn_nif.so",
    Dirs = [
        case os:getenv("CROMULENT_TURN_PRIV") of
            false -> "";
            Dir -> Dir
        end,
        case code:priv_dir(cromulent_turn) of
            {error, _} -> "";
            Dir -> Dir
        end,
        filename:join([filename:dirname(filename:dirname(code:which(?NIF))), "priv"])
    ],
    hd([File || Dir <- Dirs, Dir =/= "", File <- [filename:join(Dir, Name)], filelib:is_regular(File)]).

temporary_dir() ->
    Base = filename:basedir(user_cache, "cromulent_turn_nif_tests"),
    Dir = filename:join(Base, os:getpid() ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Dir.

copy(File, Dir) ->
    To = filename:join(Dir, filename:basename(File)),
    ok = filelib:ensure_dir(To),
    {ok, _} = file:copy(File, To).

%% true, or {false, What the loader said}.
loads(Ebin, Env) ->
    Clean = [{"CROMULENT_TURN_PRIV", false}, {"ERL_LIBS", false} | []],
    Eval =
        "case code:ensure_loaded(cromulent_turn_nif) of"
        " {module, _} -> io:put_chars(\"loaded\");"
        " Error -> io:format(\"~p\", [Error]) end, init:stop().",
    Port = open_port({spawn_executable, erl()}, [
        {args, ["-noinput", "-boot", "no_dot_erlang", "-pa", Ebin, "-eval", Eval]},
        {env, lists:ukeymerge(1, lists:keysort(1, Env), lists:keysort(1, Clean))},
        exit_status,
        stderr_to_stdout,
        binary
    ]),
    collect(Port, []).

%% Under sanitizers another one than the first in this BEAM's path: the one that runs escripts.
erl() ->
    case os:getenv("ESCRIPT_EMULATOR") of
        false -> os:find_executable("erl");
        Erl -> Erl
    end.

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc, Data]);
        {Port, {exit_status, _}} -> verdict(unicode:characters_to_list(iolist_to_binary(Acc)))
    after 30000 -> error(beam_hangs)
    end.

squeeze(Text) -> re:replace(Text, "[\"\\s]", "", [global, {return, list}]).

verdict("loaded") -> true;
verdict(Said) -> {false, Said}.
