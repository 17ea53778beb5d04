import assert from "node:assert/strict";
import { test } from "node:test";
import { Members } from "../../assets/js/members.js";

const meta = (phx_ref, more = {}) => ({ metas: [{ phx_ref, ...more }] });

test("Presence alone: the list, joins, updates and leaves; never oneself", () => {
  const members = new Members("me");
  members.sync({ me: meta("0"), ann: meta("1", { muted: true }) });
  assert.deepEqual(members.ids, ["ann"]);
  assert.deepEqual([members.has("ann"), members.has("me"), members.has("ben")], [true, false, false]);
  assert.equal(members.meta("ann").muted, true);
  assert.deepEqual(members.meta("ben"), {});

  members.diff({ joins: { ben: meta("2") }, leaves: {} });
  members.diff({ joins: { ann: meta("3", { muted: false, phx_ref_prev: "1" }) }, leaves: { ann: meta("1") } });
  assert.deepEqual(members.ids, ["ann", "ben"]);
  assert.equal(members.meta("ann").muted, false);
  members.diff({ joins: {}, leaves: { ann: meta("3"), zoe: meta("9") } });
  assert.deepEqual(members.ids, ["ben"]);
  members.sync({});
  assert.deepEqual(members.ids, []);
});

test("peer_joined and peer_left count before Presence knows", () => {
  const members = new Members("me");
  members.add("ann");
  members.add("me");
  assert.deepEqual(members.ids, ["ann"]);
  members.diff({ joins: { ann: meta("1") } });
  members.remove("ann");
  assert.deepEqual(members.ids, []);
  members.diff({ leaves: { ann: meta("1") } });
  assert.deepEqual(members.ids, []);
  members.remove("zoe");
  members.add("ann");
  assert.deepEqual(members.ids, ["ann"], "back again");
});

test("one tab takes over from another: in whatever order the news comes", () => {
  const steps = {
    joined: (m) => m.add("ann"),
    tracked: (m) => m.diff({ joins: { ann: meta("new") } }),
    left: (m) => m.remove("ann"),
    untracked: (m) => m.diff({ leaves: { ann: meta("old") } }),
  };
  // An old channel says peer_left before its presence goes.
  const orders = permutations(Object.keys(steps)).filter((o) => o.indexOf("left") < o.indexOf("untracked"));
  assert.equal(orders.length, 12);
  for (const order of orders) {
    const members = new Members("me");
    members.sync({ ann: meta("old") });
    for (const step of order) steps[step](members);
    assert.deepEqual(members.ids, ["ann"], order.join(", "));
  }
});

test("what has another shape is nobody", () => {
  const members = new Members("me");
  for (const junk of [null, undefined, 7, "x", [], { ann: null }, { ann: {} }, { ann: { metas: [null, {}, 7] } }]) {
    members.diff(junk);
    members.diff({ joins: junk, leaves: junk });
  }
  assert.deepEqual(members.ids, []);
  members.sync(null);
  assert.deepEqual(members.ids, []);
});

function permutations(list) {
  if (list.length < 2) return [list];
  return list.flatMap((first) => permutations(list.filter((each) => each !== first)).map((rest) => [first, ...rest]));
}
