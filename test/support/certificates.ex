defmodule Cromulent.Turn.Certificates do
  @moduledoc false
  # Real certificates for tests: a root, an intermediate and a server's, as OTP makes them.

  @doc """
  A server's certificate, in the forms that both sides take:

    * `cert` (with its chain), `key` - PEM texts; `der` is the certificate alone
    * `server` - options of `:ssl.listen/2`
    * `verify` - options of `:ssl.connect/4`
    * `cacertfile` - a file with the authority's certificate, which ends with the test

  Options: `host` that the certificate is for, `key` (`:ec` or `:rsa`), `validity` as `{from, until}` of dates.
  """
  def make(opts \\ []) do
    host = to_charlist(opts[:host] || "localhost")
    made = :public_key.pkix_test_data(chains(host, opts))
    {type, der} = made.server_config[:key]

    %{
      cert: pem(for der <- sent(made.server_config), do: {:Certificate, der, :not_encrypted}),
      key: pem([{type, der, :not_encrypted}]),
      der: made.server_config[:cert],
      server: made.server_config,
      verify: [
        verify: :verify_peer,
        cacerts: made.client_config[:cacerts],
        server_name_indication: host
      ],
      cacertfile: write(made.client_config[:cacerts])
    }
  end

  @doc "Certificate and key in files of a directory: `{cert, key}`."
  def files(made, dir) do
    {cert, key} = {Path.join(dir, "cert.pem"), Path.join(dir, "key.pem")}
    File.write!(cert, made.cert)
    File.write!(key, made.key)
    {cert, key}
  end

  defp chains(host, opts) do
    # OpenSSL takes no SHA-1, which is the default here.
    key = [key: key(opts[:key] || :ec), digest: :sha256]
    # {2, 5, 29, 17} is subjectAltName.
    names = [{:Extension, {2, 5, 29, 17}, false, [dNSName: host]}]
    validity = if opts[:validity], do: [validity: opts[:validity]], else: []
    peer = key ++ [extensions: names] ++ validity

    %{
      server_chain: %{root: key, intermediates: [key], peer: peer},
      client_chain: %{root: key, intermediates: [], peer: key}
    }
  end

  defp key(:ec), do: {:namedCurve, :secp256r1}
  defp key(:rsa), do: {:rsa, 2048, 65_537}

  # What a server sends is its own certificate and the intermediate ones; the root is the client's.
  defp sent(config),
    do: [config[:cert] | Enum.reject(config[:cacerts], &:public_key.pkix_is_self_signed/1)]

  defp write(certificates) do
    name = "turn_ca_#{System.pid()}_#{System.unique_integer([:positive])}.pem"
    path = Path.join(System.tmp_dir!(), name)
    File.write!(path, pem(for der <- certificates, do: {:Certificate, der, :not_encrypted}))
    ExUnit.Callbacks.on_exit(fn -> File.rm(path) end)
    path
  end

  defp pem(entries), do: :public_key.pem_encode(entries)
end
