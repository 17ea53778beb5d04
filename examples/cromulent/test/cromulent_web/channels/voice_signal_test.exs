defmodule CromulentWeb.VoiceSignalTest do
  use ExUnit.Case, async: true

  alias CromulentWeb.VoiceSignal

  test "a description keeps its known fields" do
    sdp = %{"type" => "offer", "sdp" => "v=0", "more" => 1}

    assert {:ok, "b", %{"sdp" => %{"type" => "offer", "sdp" => "v=0"}}} ==
             VoiceSignal.parse("sdp_offer", %{"to" => "b", "sdp" => sdp, "from" => "c"})

    assert {:ok, "b", %{"sdp" => "v=0"}} ==
             VoiceSignal.parse("sdp_answer", %{"to" => "b", "sdp" => "v=0"})
  end

  test "a candidate keeps its known fields, and may be the last" do
    candidate = %{"candidate" => "candidate:1", "sdpMid" => nil, "usernameFragment" => "f"}

    assert {:ok, "b", %{"candidate" => candidate}} ==
             VoiceSignal.parse("ice_candidate", %{"to" => "b", "candidate" => candidate})

    assert {:ok, "b", %{"candidate" => nil}} ==
             VoiceSignal.parse("ice_candidate", %{"to" => "b", "candidate" => nil})
  end

  test "anything else is refused" do
    for {event, payload} <- [
          {"sdp_offer", nil},
          {"sdp_offer", []},
          {"sdp_offer", %{"to" => nil, "sdp" => "v=0"}},
          {"sdp_offer", %{"to" => "b", "sdp" => %{"type" => "pranswer", "sdp" => "v=0"}}},
          {"ice_candidate", %{"to" => "b", "candidate" => %{}}},
          {"ice_candidate", %{"to" => "b", "candidate" => %{"candidate" => "", "sdpMid" => 1}}},
          {"peer_left", %{"to" => "b"}}
        ] do
      assert :error == VoiceSignal.parse(event, payload)
    end
  end

  test "the budget of a window is spent, and another comes" do
    budget = VoiceSignal.budget(0)

    budget =
      Enum.reduce(1..600, budget, fn now, budget ->
        assert {:ok, budget} = VoiceSignal.spend(budget, now)
        budget
      end)

    assert :error == VoiceSignal.spend(budget, 601)
    assert :error == VoiceSignal.spend(budget, 9_999)
    assert {:ok, _budget} = VoiceSignal.spend(budget, 10_000)
  end
end
