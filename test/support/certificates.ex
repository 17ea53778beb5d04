defmodule Cromulent.Turn.Certificates do
  @moduledoc false
  # A certificate authority of the test's own, made by OTP when it runs.

  @doc """
  A server's options for TLS, and its authority's certificate in a file that ends with the test.

  Options: `host` that the certificate is for, `validity` as `{from, until}` of dates.
  """
  def make(opts \\ []) do
    host = to_charlist(opts[:host] || "localhost")
    # {2, 5, 29, 17} is subjectAltName.
    names = [{:Extension, {2, 5, 29, 17}, false, [dNSName: host]}]
    validity = if opts[:validity], do: [validity: opts[:validity]], else: []
    key = [key: {:namedCurve, :secp256r1}, digest: :sha256]
    side = %{root: key, intermediates: [], peer: key ++ [extensions: names] ++ validity}
    plain = %{root: key, intermediates: [], peer: key}
    made = :public_key.pkix_test_data(%{server_chain: side, client_chain: plain})
    %{server: made.server_config, cacertfile: write(made.client_config[:cacerts])}
  end

  defp write(certificates) do
    pem = :public_key.pem_encode(for der <- certificates, do: {:Certificate, der, :not_encrypted})
    name = "turn_ca_#{System.pid()}_#{System.unique_integer([:positive])}.pem"
    path = Path.join(System.tmp_dir!(), name)
    File.write!(path, pem)
    ExUnit.Callbacks.on_exit(fn -> File.rm(path) end)
    path
  end
end
