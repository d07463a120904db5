// All states times all events, for every verb, against a table written by hand; and what must hold whatever happens.
#include "actors/deployment/operation.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace troupe::deployment {
namespace {

using enum state;
constexpr state none = static_cast<state>(255);

constexpr event all_events[] = {event::passed, event::failed, event::withdrawn};
const std::vector<course> all_courses = {
    {verb::load, false},     {verb::unload, false},  {verb::swap, false},  {verb::deploy, false},
    {verb::load, true},      {verb::unload, true},   {verb::swap, true},   {verb::deploy, true},
    {verb::rollback, false}, {verb::rollback, true}, {verb::sleep, false}, {verb::sleep, true},
    {verb::wake, false},     {verb::wake, true},     {verb::pin, false},   {verb::pin, true},
    {verb::unpin, false},    {verb::unpin, true},    {verb::drain, false}, {verb::drain, true}};

struct row {
  state at, passed, failed, withdrawn;
};
using table = std::vector<row>;

const table ends_and_ways_out = {{queued, staging, refused, refused}, {clearing, refused, refused, none},
                                 {undoing, undone, undone, none},     {done, none, none, none},
                                 {refused, none, none, none},         {undone, none, none, none}};
const table of_load = {{staging, verifying, refused, refused},
                       {verifying, loading, refused, refused},
                       {loading, committing, clearing, clearing},
                       {committing, switching, clearing, none},
                       {switching, done, done, none}};
const table of_unload = {{staging, committing, refused, refused},
                         {committing, switching, refused, none},
                         {switching, retiring, retiring, none},
                         {retiring, done, done, none}};
const table of_swap = {{staging, verifying, refused, refused},
                       {verifying, loading, refused, refused},
                       {loading, switching, clearing, clearing},
                       {switching, watching, undoing, undoing},
                       {watching, committing, undoing, undoing},
                       {committing, retiring, undoing, none},
                       {retiring, done, done, none}};
const table of_rest = {{staging, switching, refused, refused},
                       {switching, retiring, undoing, undoing},
                       {retiring, done, undoing, undoing}};
const table of_wake = {{staging, loading, refused, refused},
                       {loading, switching, clearing, clearing},
                       {switching, done, undoing, undoing}};
const table of_pin = {{staging, committing, refused, refused}, {committing, done, refused, none}};
const table of_dry_run = {{staging, verifying, refused, refused}, {verifying, done, refused, refused}};
const table of_dry_unload = {{staging, done, refused, refused}};

const table& table_of(course c) {
  switch (c.verb) {
    case verb::load:
      return c.dry_run ? of_dry_run : of_load;
    case verb::swap:
    case verb::deploy:
    case verb::rollback:
      return c.dry_run ? of_dry_run : of_swap;
    case verb::unload:
      return c.dry_run ? of_dry_unload : of_unload;
    case verb::sleep:
    case verb::drain:
      return c.dry_run ? of_dry_unload : of_rest;
    case verb::wake:
      return c.dry_run ? of_dry_unload : of_wake;
    case verb::pin:
    case verb::unpin:
      break;
  }
  return c.dry_run ? of_dry_unload : of_pin;
}

state expected(course c, state at, event what) {
  for (const table* t : {&table_of(c), &ends_and_ways_out})
    for (const row& r : *t)
      if (r.at == at)
        return what == event::passed ? r.passed : what == event::failed ? r.failed : r.withdrawn;
  return none;  // not on this verb's path
}

std::string words(course c, state at, event what) {
  return std::string(name_of(c.verb)) + (c.dry_run ? " (dry)" : "") + ", " + std::string(name_of(at)) +
         ", event " + std::to_string(static_cast<int>(what));
}

TEST(Operation, GoesFromEachStateAtEachEventWhereTheTableSays) {
  for (const course c : all_courses)
    for (std::uint8_t s = 0; s < states; ++s)
      for (const event e : all_events) {
        const auto at = static_cast<state>(s);
        EXPECT_EQ(next(c, at, e).value_or(none), expected(c, at, e)) << words(c, at, e);
      }
}

// Every state that can be reached, with the states on some way there.
void explore(course c, state at, bool committed, std::set<state>& seen) {
  if (at == committing && !committed) {
    // `passed` is the commit.
    explore(c, *next(c, at, event::passed), true, seen);
    if (const auto failed = next(c, at, event::failed)) explore(c, *failed, false, seen);
    return;
  }
  seen.insert(at);
  EXPECT_EQ(is_committed(c, at), committed && !c.dry_run) << words(c, at, event::passed);
  if (is_over(at)) {
    if (commits(c)) {
      EXPECT_EQ(at == done, committed) << words(c, at, event::passed);
    }
    return;
  }
  for (const event e : all_events)
    if (const auto to = next(c, at, e)) explore(c, *to, committed, seen);
}

TEST(Operation, IsDoneIfAndOnlyIfItIsCommitted) {
  for (const course c : all_courses) {
    std::set<state> seen;
    explore(c, queued, false, seen);
    EXPECT_TRUE(seen.contains(done));
  }
}

TEST(Operation, ComesToAnEndWhateverHappens) {
  for (const course c : all_courses)
    for (std::uint8_t s = 0; s < states; ++s)
      for (const event e : all_events) {
        auto at = expected(c, static_cast<state>(s), e) == none ? done : static_cast<state>(s);
        int steps = 0;
        while (!is_over(at) && steps < 20) {
          at = *next(c, at, e == event::withdrawn && !next(c, at, e) ? event::failed : e);
          ++steps;
        }
        EXPECT_TRUE(is_over(at)) << words(c, static_cast<state>(s), e);
      }
}

TEST(Operation, StartsNothingInADryRun) {
  for (const course c : all_courses) {
    if (!c.dry_run) continue;
    for (const state s : path_of(c)) EXPECT_TRUE(s == staging || s == verifying || s == done) << name_of(s);
  }
}

TEST(Operation, HasANameForEachStateAndVerbThatLeadsBackToIt) {
  for (std::uint8_t s = 0; s < states; ++s)
    EXPECT_EQ(state_named(name_of(static_cast<state>(s))), static_cast<state>(s));
  for (std::uint8_t v = 0; v < verbs; ++v)
    EXPECT_EQ(verb_named(name_of(static_cast<verb>(v))), static_cast<verb>(v));
  EXPECT_FALSE(state_named("promoted"));
  EXPECT_FALSE(verb_named(""));
}

}  // namespace
}  // namespace troupe::deployment
