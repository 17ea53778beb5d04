defmodule Cromulent.Turn.Certificates do
  @moduledoc false
  # Real certificates for tests: a root, an intermediate and a server's, as OTP makes them.

  @host "localhost"

  @doc """
  A server's certificate with its chain, and its key, as PEM texts, and how a client verifies them:
  options of `:ssl.connect/4`. `kind` is `:ec` or `:rsa`.
  """
  def make(kind \\ :ec) do
    # OpenSSL takes no SHA-1, which is the default here.
    key = [key: key(kind), digest: :sha256]
    host = [{:Extension, {2, 5, 29, 17}, false, [dNSName: to_charlist(@host)]}]
    server = %{root: key, intermediates: [key], peer: [{:extensions, host} | key]}

    made =
      :public_key.pkix_test_data(%{server_chain: server, client_chain: %{root: key, peer: key}})

    config = made.server_config
    {type, der} = config[:key]

    # What a server sends is its own certificate and the intermediate ones; the root is the client's.
    chain = [config[:cert] | Enum.reject(config[:cacerts], &:public_key.pkix_is_self_signed/1)]

    %{
      cert: pem(for der <- chain, do: {:Certificate, der, :not_encrypted}),
      key: pem([{type, der, :not_encrypted}]),
      der: config[:cert],
      verify: [
        verify: :verify_peer,
        cacerts: made.client_config[:cacerts],
        server_name_indication: to_charlist(@host)
      ]
    }
  end

  @doc "The same in files of a directory: `{cert, key}`."
  def files(made, dir) do
    {cert, key} = {Path.join(dir, "cert.pem"), Path.join(dir, "key.pem")}
    File.write!(cert, made.cert)
    File.write!(key, made.key)
    {cert, key}
  end

  defp key(:ec), do: {:namedCurve, :secp256r1}
  defp key(:rsa), do: {:rsa, 2048, 65_537}

  defp pem(entries), do: :public_key.pem_encode(entries)
end
