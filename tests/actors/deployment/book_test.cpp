#include "actors/deployment/book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace troupe::deployment {
namespace {

using testing::HasSubstr;

const std::vector<base_entry> configured = {{"fox", {.checkpoint = "/models/fox"}},
                                            {"owl", {.checkpoint = "/models/owl", .max_context = 512}}};

// What is on the disk; can be told to be full.
struct disk {
  std::vector<record> records;
  std::size_t room = ~std::size_t{0};

  book::writer writer() {
    return [this](const record& r) -> result<void> {
      if (records.size() >= room) return fail(error_code::not_found, "disk full");
      records.push_back(*from_line(std::string_view(to_line(r)).substr(0, to_line(r).size() - 1)));
      return {};
    };
  }
  book start(std::uint64_t now_ms = 1) {
    return book(configured, std::vector<record>(records), writer(), now_ms);
  }
};

request load(const std::string& model, const std::string& folder) {
  return {.model = model, .course = {verb::load, false}, .wanted = {.checkpoint = folder}};
}
request unload(const std::string& model) {
  return {.model = model, .course = {verb::unload, false}};
}
request deploy(const std::string& model, const std::string& folder) {
  return {.model = model, .course = {verb::deploy, false}, .wanted = {.checkpoint = folder}};
}

std::map<std::string, std::string> served(const book& b) {
  std::map<std::string, std::string> all;
  for (const auto& s : b.served()) all[s.model] = s.what.checkpoint + "@" + std::to_string(s.generation);
  return all;
}

state run(book& b, std::uint64_t id) {
  while (!is_over(b.find(id)->state)) b.advance(id, event::passed, {}, 2);
  return b.find(id)->state;
}

TEST(Book, BeginsWithTheConfiguration) {
  disk d;
  const book b = d.start();
  EXPECT_EQ(served(b),
            (std::map<std::string, std::string>{{"fox", "/models/fox@1"}, {"owl", "/models/owl@1"}}));
  EXPECT_TRUE(d.records.empty());
}

TEST(Book, CountsGenerationsAndNeverUsesOneTwice) {
  disk d;
  book b = d.start();
  EXPECT_EQ(run(b, b.open(deploy("fox", "/new"), 1)->id), state::done);
  EXPECT_EQ(b.generation_of("fox"), 2u);
  EXPECT_EQ(run(b, b.open(unload("fox"), 1)->id), state::done);
  EXPECT_EQ(b.generation_of("fox"), 0u);
  EXPECT_EQ(run(b, b.open(load("fox", "/again"), 1)->id), state::done);
  EXPECT_EQ(b.generation_of("fox"), 3u);
  EXPECT_EQ(b.history().back().old_generation, 0u);
  EXPECT_EQ(b.history().back().new_generation, 3u);
}

TEST(Book, ComparesTheGenerationBeforeItChangesAnything) {
  disk d;
  book b = d.start();
  auto wanted = deploy("fox", "/new");
  wanted.expected_generation = 4;
  auto refused = b.open(wanted, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::conflict);
  EXPECT_THAT(refused.error().text, HasSubstr("expected generation 4, found generation 1"));
  EXPECT_TRUE(d.records.empty());
  wanted.expected_generation = 1;
  EXPECT_TRUE(b.open(wanted, 1));

  auto fresh = load("hen", "/hen");
  fresh.expected_generation = 2;
  EXPECT_THAT(b.open(fresh, 1).error().text, HasSubstr("found not served"));
  fresh.expected_generation = 0;
  EXPECT_TRUE(b.open(fresh, 1));
}

TEST(Book, RefusesWhatMakesNoSense) {
  disk d;
  book b = d.start();
  EXPECT_EQ(b.open(unload("hen"), 1).error().code, error_code::unknown_model);
  EXPECT_EQ(b.open(deploy("hen", "/x"), 1).error().code, error_code::unknown_model);
  EXPECT_EQ(b.open(load("fox", "/x"), 1).error().code, error_code::conflict);
  EXPECT_TRUE(d.records.empty());
  EXPECT_TRUE(b.history().empty());
}

TEST(Book, RunsOneOperationAtATimeOnAModelAndNamesIt) {
  disk d;
  book b = d.start();
  const auto first = b.open(deploy("fox", "/a"), 1);
  const auto second = b.open(unload("fox"), 1);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, error_code::busy);
  EXPECT_THAT(second.error().text, HasSubstr("operation 1 (deploy) is under way (staging)"));
  EXPECT_TRUE(b.open(unload("owl"), 1)) << "another model waits for nobody";
  EXPECT_EQ(run(b, first->id), state::done);
  EXPECT_TRUE(b.open(unload("fox"), 1));
}

TEST(Book, CallsTheNextInTheQueueAndComparesItsGenerationThen) {
  disk d;
  book b = d.start();
  const auto first = b.open(deploy("fox", "/a"), 1)->id;
  auto queued = deploy("fox", "/b");
  queued.queue = true;
  queued.expected_generation = 1;  // will not be met: the first makes it 2
  const auto second = b.open(queued, 1)->id;
  queued.wanted.checkpoint = "/c";
  queued.expected_generation = 2;
  const auto third = b.open(queued, 1)->id;
  EXPECT_EQ(b.find(second)->state, state::queued);

  b.advance(first, event::failed, "no module", 2);  // refused: the generation stays
  EXPECT_EQ(b.find(first)->state, state::refused);
  EXPECT_EQ(b.find(second)->state, state::staging);
  EXPECT_EQ(run(b, second), state::done);
  EXPECT_EQ(b.find(third)->state, state::staging);
  EXPECT_EQ(run(b, third), state::done);
  EXPECT_EQ(served(b)["fox"], "/c@3");

  const auto fourth = b.open(unload("fox"), 3)->id;
  const auto fifth = b.open(queued, 3)->id;  // of generation 2
  book::changes last;
  while (!is_over(b.find(fourth)->state)) last = b.advance(fourth, event::passed, {}, 4);
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[1].id, fifth);
  EXPECT_EQ(last[1].state, state::refused);
}

TEST(Book, ComesBackToTheStateBeforeOrBehindTheCommitWhereverItCrashes) {
  for (const request& wanted : {load("hen", "/hen"), unload("fox"), deploy("fox", "/new")}) {
    disk whole;
    book reference = whole.start();
    const auto before = served(reference);
    run(reference, reference.open(wanted, 1)->id);
    const auto after = served(reference);
    ASSERT_NE(before, after);
    ASSERT_EQ(whole.records.size(), 3u);  // begun, committed, ended
    for (std::size_t written = 0; written <= whole.records.size(); ++written) {
      disk crashed;
      crashed.records.assign(whole.records.begin(),
                             whole.records.begin() + static_cast<std::ptrdiff_t>(written));
      const book back = crashed.start(9);
      EXPECT_EQ(served(back), written < 2 ? before : after) << name_of(wanted.course.verb) << ' ' << written;
      EXPECT_TRUE(back.under_way().empty());
      ASSERT_EQ(back.history().size(), written == 0 ? 0u : 1u);
      if (written == 0) continue;
      const operation told = back.history().front();
      EXPECT_EQ(told.state, written < 2 ? state::refused : state::done);
      EXPECT_EQ(told.reason, written < 3 ? "the server ended meanwhile" : "");
      EXPECT_EQ(served(crashed.start(9)), served(back)) << "a second restart";
    }
  }
}

TEST(Book, NeverBringsBackWhatWasOnProbation) {
  for (const state last : {state::staging, state::verifying, state::loading, state::switching,
                           state::watching, state::committing}) {
    disk d;
    book b = d.start();
    const auto id = b.open(deploy("fox", "/candidate"), 1)->id;
    while (b.find(id)->state != last) b.advance(id, event::passed, {}, 1);
    EXPECT_EQ(served(d.start())["fox"], "/models/fox@1") << name_of(last);
  }
}

TEST(Book, TakesNothingOnThatItCouldNotWrite) {
  disk d;
  book b = d.start();
  d.room = 0;
  EXPECT_EQ(b.open(deploy("fox", "/new"), 1).error().text, "disk full");
  EXPECT_TRUE(b.under_way().empty());
  d.room = 1;  // begun, but no commit
  const auto id = b.open(deploy("fox", "/new"), 1)->id;
  EXPECT_EQ(run(b, id), state::undone);
  EXPECT_EQ(b.find(id)->reason, "disk full");
  EXPECT_EQ(served(b)["fox"], "/models/fox@1");
  EXPECT_EQ(b.find(id)->new_generation, 1u);
}

TEST(Book, LetsAnEditedConfigurationWin) {
  disk d;
  book b = d.start();
  run(b, b.open(deploy("fox", "/new"), 1)->id);
  run(b, b.open(load("hen", "/hen"), 1)->id);
  EXPECT_EQ(served(d.start()), (std::map<std::string, std::string>{
                                   {"fox", "/new@2"}, {"hen", "/hen@1"}, {"owl", "/models/owl@1"}}));
  auto edited = configured;
  edited[0].intended.checkpoint = "/models/fox-2";
  const book after(edited, d.records, d.writer(), 5);
  EXPECT_EQ(served(after)["fox"], "/models/fox-2@3") << "a number that was never used";
  EXPECT_EQ(served(after)["hen"], "/hen@1");
  const book without(std::vector<base_entry>{configured[1]}, d.records, d.writer(), 5);
  EXPECT_FALSE(served(without).contains("fox")) << "removed from the configuration";
}

TEST(Book, EndsWhatWasUnderWayWhenItsDriverIsGone) {
  disk d;
  book b = d.start();
  const auto loading = b.open(load("hen", "/hen"), 1)->id;
  b.advance(loading, event::passed, {}, 1);
  b.advance(loading, event::passed, {}, 1);
  const auto changed = b.fail_all("the deployer was restarted", 2);
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].state, state::clearing);
  EXPECT_EQ(changed[0].reason, "the deployer was restarted");
}

// The module that a swap names is told when it is known.
std::uint64_t run_swap(book& b, const std::string& sha256) {
  const auto id = b.open({.model = "fox", .course = {verb::swap, false}}, 1)->id;
  b.set_module(id, sha256, true);
  run(b, id);
  return id;
}
const version& fox(const book& b) {
  return *b.intended_of("fox");
}

TEST(Book, KnowsWhatToRollBackToAlsoAfterARestartAndACompaction) {
  disk d;
  book b = d.start();
  EXPECT_EQ(b.open({.model = "fox", .course = {verb::rollback, false}}, 1).error().code,
            error_code::conflict);
  run_swap(b, "aa");
  run_swap(b, "bb");
  EXPECT_EQ(fox(b).module_sha256, "bb");
  EXPECT_TRUE(fox(b).own_module);
  for (const bool compacted : {false, true}) {
    disk copy = d;
    if (compacted) copy.records = b.digest();
    book back = copy.start();
    EXPECT_EQ(fox(back).module_sha256, "bb");
    const auto id = back.open({.model = "fox", .course = {verb::rollback, false}}, 1)->id;
    EXPECT_EQ(back.find(id)->wanted.module_sha256, "aa");
    back.set_module(id, "aa", true);
    EXPECT_EQ(run(back, id), state::done);
    EXPECT_EQ(fox(back).module_sha256, "aa");
    EXPECT_EQ(back.generation_of("fox"), 4u);
  }
}

TEST(Book, RollsTheFirstSwapBackToTheInstalledModule) {
  disk d;
  book b = d.start();
  b.learn_module("fox", "installed");
  run_swap(b, "aa");
  for (book* at : {&b}) {
    const auto id = at->open({.model = "fox", .course = {verb::rollback, false}}, 1)->id;
    EXPECT_FALSE(at->find(id)->wanted.own_module);
    run(*at, id);
    EXPECT_FALSE(fox(*at).own_module);
  }
  const book back = d.start();
  EXPECT_FALSE(fox(back).own_module);
}

TEST(Book, PinsAModelAndKeepsThatOverARestart) {
  disk d;
  book b = d.start();
  run(b, b.open({.model = "fox", .course = {verb::pin, false}}, 1)->id);
  EXPECT_EQ(b.generation_of("fox"), 1u) << "what is served has not changed";
  for (const verb v : {verb::unload, verb::swap, verb::sleep})
    EXPECT_EQ(b.open({.model = "fox", .course = {v, false}}, 1).error().code, error_code::conflict);
  book back = d.start();
  EXPECT_TRUE(fox(back).pinned);
  run(back, back.open({.model = "fox", .course = {verb::unpin, false}}, 1)->id);
  EXPECT_FALSE(fox(back).pinned);
  EXPECT_TRUE(back.open({.model = "fox", .course = {verb::sleep, false}}, 1));
}

TEST(Book, ForgetsThatAModelSleepsWhenTheServerEnds) {
  disk d;
  book b = d.start();
  EXPECT_EQ(run(b, b.open({.model = "fox", .course = {verb::sleep, false}}, 1)->id), state::done);
  EXPECT_EQ(served(d.start()), served(b));
}

TEST(Book, KeepsABoundedHistoryAndADigestThatMeansTheSame) {
  disk d;
  book b = d.start();
  for (int i = 0; i < 300; ++i) {
    run(b, b.open(load("hen", "/hen"), 1)->id);
    run(b, b.open(unload("hen"), 1)->id);
  }
  EXPECT_EQ(b.history().size(), book::kept_history);
  run(b, b.open(deploy("owl", "/new-owl"), 1)->id);
  const auto under_way = b.open(deploy("fox", "/new"), 1);
  ASSERT_TRUE(under_way);
  disk compacted;
  compacted.records = b.digest();
  EXPECT_LT(compacted.records.size(), 3 * book::kept_history);
  book again = compacted.start(7);
  EXPECT_EQ(served(again), served(b));
  EXPECT_EQ(again.history().size(), book::kept_history);
  EXPECT_EQ(run(again, again.open(load("hen", "/hen"), 1)->id), state::done);
  EXPECT_EQ(again.generation_of("hen"), 301u);
}

// Whatever happens in whatever order, with a disk that fails now and then and a server that is killed now and then.
TEST(Book, KeepsItsPromisesUnderRandomOperationsFaultsAndCrashes) {
  std::mt19937 dice(7);
  const auto roll = [&](unsigned sides) { return static_cast<unsigned>(dice() % sides); };
  const std::vector<std::string> names = {"fox", "owl", "hen"};
  disk d;
  book b = d.start();
  std::map<std::string, std::uint64_t> newest;  // generation ever seen
  std::map<std::string, std::string> promised = served(b);
  for (int i = 0; i < 20'000; ++i) {
    d.room = roll(20) == 0 ? d.records.size() : ~std::size_t{0};
    const std::string& name = names[roll(3)];
    if (roll(4) == 0) {
      request wanted = roll(3) == 0   ? unload(name)
                       : roll(2) == 0 ? load(name, "/l" + std::to_string(i))
                                      : deploy(name, "/s" + std::to_string(i));
      wanted.queue = roll(2) == 0;
      wanted.course.dry_run = roll(8) == 0;
      if (roll(3) == 0)
        wanted.expected_generation = static_cast<std::int64_t>(b.generation_of(name)) - roll(2);
      (void)b.open(wanted, 1);
    } else if (const auto all = b.under_way(); !all.empty()) {
      const auto& o = all[roll(static_cast<unsigned>(all.size()))];
      b.advance(o.id, roll(8) == 0 ? event::failed : roll(12) == 0 ? event::withdrawn : event::passed, {}, 1);
    }
    if (roll(50) == 0) {
      promised = served(b);
      d.room = ~std::size_t{0};
      b = d.start();
      ASSERT_EQ(served(b), promised) << "after a crash in step " << i;
      ASSERT_TRUE(b.under_way().empty());
    }
    if (roll(200) == 0) d.records = b.digest();
    std::map<std::string, int> running;
    for (const auto& o : b.under_way())
      if (o.state != state::queued) {
        ASSERT_EQ(++running[o.model], 1) << "two operations on " << o.model;
      }
    for (const auto& s : b.served()) {
      ASSERT_GE(s.generation, newest[s.model]);
      newest[s.model] = s.generation;
    }
  }
  EXPECT_GT(newest["hen"], 100u) << "the dice were too cautious to show anything";
}

}  // namespace
}  // namespace troupe::deployment
