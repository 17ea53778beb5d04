%% @doc Credentials and the wire format of STUN and TURN, in C.
%%
%% Erlang projects use this module as it is; Elixir projects use `Cromulent.Turn.Credentials',
%% `Cromulent.Turn.Stun' and `Cromulent.Turn.ChannelData', whose documentation also has the table of
%% attributes and of the forms of their values.
%%
%% Every function is pure. Bad arguments raise `badarg'; bad packets give `{error, {Reason, Offset}}',
%% with the offset in bytes. `error:crypto_error' is raised when libcrypto refuses to work, for
%% example for lack of MD5 in a FIPS-only installation. Packets over 8 KiB, which no network carries
%% in one piece, are worked on by a dirty CPU scheduler; everything else takes a few microseconds.
%%
%% The library is looked for in the directory that the environment variable `CROMULENT_TURN_PRIV'
%% names, else in `code:priv_dir(cromulent_turn)', else in `../priv' from this module's own file.
-module(cromulent_turn_nif).

-export([
    stun_decode/1,
    stun_encode/1,
    stun_encode/2,
    stun_verify/3,
    channel_data_encode/3,
    channel_data_decode/1,
    frame_size/1,
    rest_credential/4,
    rest_verify/5,
    long_term_key/4,
    userhash/2,
    equal/2
]).

%% What the public modules are made of.
-export([stun_parts/1, stun_build/6]).

%% For programs that run in the foreground.
-export([sigint_to_sigterm/0]).

-export_type([
    class/0,
    method/0,
    attribute/0,
    message/0,
    integrity/0,
    stun_reason/0,
    frame_reason/0,
    channel/0
]).

-nifs([
    stun_parts/1,
    stun_build/6,
    stun_verify/3,
    channel_data_encode/3,
    channel_data_decode/1,
    frame_size/1,
    rest_credential/4,
    rest_verify/5,
    long_term_key/4,
    userhash/2,
    equal/2,
    sigint_to_sigterm/0
]).

-on_load(load/0).

-define(APPLICATION, cromulent_turn).
-define(LIBRARY, "cromulent_turn_nif").
-define(NOT_LOADED, erlang:nif_error({not_loaded, ?MODULE})).

-type class() :: request | indication | success | error.
%% RFC 8489 section 5.

-type method() ::
    binding
    | allocate
    | refresh
    | send
    | data
    | create_permission
    | channel_bind
    | connect
    | connection_bind
    | connection_attempt
    | goog_ping
    | 0..16#FFF.
%% A method without a name here is its number.

-type attribute() :: {Name :: atom(), Value :: term()} | {Type :: 0..16#FFFF, Value :: binary()}.
%% Named with a value of the attribute's own form, or numbered with its bytes.

-type message() :: #{
    class := class(),
    method := method(),
    transaction_id := <<_:96>>,
    attributes := [attribute()],
    ignored => [{atom() | 0..16#FFFF, binary()}]
}.
%% Attributes in wire order. `ignored' has those behind the message integrity, which nobody may act
%% on (RFC 8489 section 14.5), with the bytes of their values.

-type integrity() :: {sha1 | sha256, Key :: binary()}.

-type stun_reason() ::
    truncated
    | not_stun
    | bad_cookie
    | bad_length
    | attribute_overrun
    | fingerprint_not_last
    | bad_fingerprint
    | bad_value.

-type frame_reason() :: truncated | not_stun | bad_cookie | bad_length | bad_channel.

-type channel() :: 16#4000..16#4FFF.

%% @doc Decodes exactly one STUN message; a FINGERPRINT in it must be last and right.
-spec stun_decode(Packet :: binary()) ->
    {ok, message()} | {error, {stun_reason(), non_neg_integer()}}.
stun_decode(Packet) ->
    case stun_parts(Packet) of
        {ok, Class, Method, TransactionId, Attributes, Ignored} ->
            {ok, #{
                class => Class,
                method => Method,
                transaction_id => TransactionId,
                attributes => Attributes,
                ignored => Ignored
            }};
        Error ->
            Error
    end.

%% @equiv stun_encode(Message, #{})
-spec stun_encode(message()) -> binary().
stun_encode(Message) ->
    stun_encode(Message, #{}).

%% @doc Encodes a message: header, attributes in their order, then what the options ask for: a
%% MESSAGE-INTEGRITY per `{sha1, Key}' and a MESSAGE-INTEGRITY-SHA256 per `{sha256, Key}', and FINGERPRINT.
%% `ignored' is not written.
-spec stun_encode(message(), #{integrity => [integrity()], fingerprint => boolean()}) -> binary().
stun_encode(
    #{class := Class, method := Method, transaction_id := Id, attributes := Attributes}, Options
) when is_map(Options) ->
    Integrity = maps:get(integrity, Options, []),
    Fingerprint = maps:get(fingerprint, Options, false),
    case maps:keys(Options) -- [integrity, fingerprint] of
        [] -> stun_build(Class, Method, Id, Attributes, Integrity, Fingerprint);
        _ -> erlang:error(badarg)
    end;
stun_encode(_Message, _Options) ->
    erlang:error(badarg).

%% @doc Checks a packet's MESSAGE-INTEGRITY (`sha1') or MESSAGE-INTEGRITY-SHA256 (`sha256') in constant
%% time. `missing' when it has none, `bad_value' when it is not of 20 or 32 bytes, `bad_integrity' when it
%% was not made with this key of at most 1,024 bytes. RFC 8489 sections 14.5 and 14.6.
-spec stun_verify(Packet :: binary(), Key :: binary(), sha1 | sha256) ->
    ok | {error, {stun_reason() | missing | bad_integrity, non_neg_integer()}}.
stun_verify(_Packet, _Key, _Algorithm) ->
    ?NOT_LOADED.

%% @doc `{ok, Class, Method, TransactionId, Attributes, Ignored}': what {@link stun_decode/1} makes its
%% map of.
-spec stun_parts(Packet :: binary()) ->
    {ok, class(), method(), <<_:96>>, [attribute()], [{atom() | 0..16#FFFF, binary()}]}
    | {error, {stun_reason(), non_neg_integer()}}.
stun_parts(_Packet) ->
    ?NOT_LOADED.

%% @doc {@link stun_encode/2} with the message and the options taken apart.
-spec stun_build(class(), method(), <<_:96>>, [attribute()], [integrity()], boolean()) ->
    binary().
stun_build(_Class, _Method, _TransactionId, _Attributes, _Integrity, _Fingerprint) ->
    ?NOT_LOADED.

%% @doc A ChannelData message of up to 65,535 bytes of data, padded to a multiple of 4 for streams
%% when `Stream' is true. RFC 8656 sections 12.4 and 12.5.
-spec channel_data_encode(channel(), Data :: binary(), Stream :: boolean()) -> binary().
channel_data_encode(_Channel, _Data, _Stream) ->
    ?NOT_LOADED.

%% @doc The channel and the data of one ChannelData message; bytes behind it do not count.
-spec channel_data_decode(Frame :: binary()) ->
    {ok, {channel(), binary()}} | {error, {truncated | bad_channel, non_neg_integer()}}.
channel_data_decode(_Frame) ->
    ?NOT_LOADED.

%% @doc The size of the first STUN or ChannelData frame of a stream, padding included; `more' when
%% there are too few bytes to tell. On an error the stream is beyond repair (RFC 8489 section 6.2.2).
-spec frame_size(Bytes :: binary()) ->
    {ok, pos_integer()} | more | {error, {frame_reason(), non_neg_integer()}}.
frame_size(_Bytes) ->
    ?NOT_LOADED.

%% @doc A time-limited credential: `{<<"Expiry:UserId">>, Base64 of HMAC(Secret, Username)}', or just
%% `<<"Expiry">>' for an empty user id. `Expiry' is in Unix seconds. The user id is UTF-8 without control
%% characters, the user name has at most 508 bytes, the secret 1 to 1,024.
%% draft-uberti-rtcweb-turn-rest-00 section 2.2.
-spec rest_credential(
    sha | sha256, Secret :: binary(), UserId :: binary(), Expiry :: non_neg_integer()
) ->
    {Username :: binary(), Password :: binary()}.
rest_credential(_Hash, _Secret, _UserId, _Expiry) ->
    ?NOT_LOADED.

%% @doc Whether one of 1 to 16 secrets made this password of this user name, and `Now', in Unix
%% seconds, lies before the expiry in it. All secrets are tried, in constant time.
-spec rest_verify(
    sha | sha256, [Secret :: binary()], Username :: binary(), Password :: binary(), non_neg_integer()
) ->
    ok | {error, expired | invalid | malformed}.
rest_verify(_Hash, _Secrets, _Username, _Password, _Now) ->
    ?NOT_LOADED.

%% @doc The key of a long-term credential: the hash of `Username:Realm:Password', 16 bytes with `md5', 32
%% with `sha256'. RFC 8489 sections 9.2.2 and 18.5.1.
-spec long_term_key(md5 | sha256, binary(), binary(), binary()) -> binary().
long_term_key(_Algorithm, _Username, _Realm, _Password) ->
    ?NOT_LOADED.

%% @doc SHA-256 of `Username:Realm', which stands for the user name where that must not be seen.
%% RFC 8489 section 14.4.
-spec userhash(Username :: binary(), Realm :: binary()) -> <<_:256>>.
userhash(_Username, _Realm) ->
    ?NOT_LOADED.

%% @doc Whether two binaries of up to 65,535 bytes are equal, in a time that depends on their lengths
%% alone.
-spec equal(binary(), binary()) -> boolean().
equal(_A, _B) ->
    ?NOT_LOADED.

%% @doc Makes SIGINT (Ctrl-C) end the BEAM in order, as SIGTERM does, instead of opening the break menu;
%% a second one ends it at once. It is for mix tasks: the library itself leaves signals alone.
-spec sigint_to_sigterm() -> ok | {error, system_limit}.
sigint_to_sigterm() ->
    ?NOT_LOADED.

load() ->
    erlang:load_nif(filename:join(priv_dir(), ?LIBRARY), 0).

priv_dir() ->
    case os:getenv("CROMULENT_TURN_PRIV") of
        Unset when Unset =:= false; Unset =:= "" -> application_priv_dir();
        Dir -> Dir
    end.

application_priv_dir() ->
    case code:priv_dir(?APPLICATION) of
        {error, bad_name} -> sibling_priv_dir(code:which(?MODULE));
        Dir -> Dir
    end.

sibling_priv_dir(Beam) when is_list(Beam) ->
    filename:join([filename:dirname(filename:dirname(filename:absname(Beam))), "priv"]);
sibling_priv_dir(_Unknown) ->
    "priv".
