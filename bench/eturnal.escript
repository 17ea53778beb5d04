#!/usr/bin/env escript
%% -*- erlang -*-
%%! -noinput +Q 262144
%% TURN as eturnal has it: ProcessOne's `stun` library (Debian's erlang-p1-stun) with a listener on
%% UDP that takes credentials of the REST scheme.
%%
%%     escript eturnal.escript PORT SECRET REALM MIN_PORT MAX_PORT
%%
%% Prints "ready" once it listens; SIGTERM ends it.
-mode(compile).

%% Where Debian puts its libraries, for an Erlang that did not come from there.
-define(DEBIAN, "/usr/lib/erlang/lib").

main([Port, Secret, Realm, Min, Max]) ->
    [code:add_pathz(P) || P <- filelib:wildcard(?DEBIAN ++ "/{p1_stun,p1_utils,fast_tls,p1_tls}-*/ebin")],
    ok = logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(stun),
    Opts = [use_turn,
            {auth_type, user},
            {auth_realm, list_to_binary(Realm)},
            {auth_fun, fun(User, _Realm) -> password(Secret, User) end},
            {turn_ipv4_address, {127, 0, 0, 1}},
            {turn_min_port, list_to_integer(Min)},
            {turn_max_port, list_to_integer(Max)},
            {turn_max_allocations, infinity},
            {turn_max_permissions, infinity}],
    ok = stun_listener:add_listener({127, 0, 0, 1}, list_to_integer(Port), udp, Opts),
    io:put_chars("ready\n"),
    receive after infinity -> ok end.

password(Secret, User) ->
    base64:encode(crypto:mac(hmac, sha, Secret, User)).
