// Models that sleep and are woken, on a backend that remembers.
#include <gtest/gtest.h>

#include <map>

#include "actors/errors.hpp"
#include "actors/executor/executor.hpp"
#include "tests/support/engine_actors.hpp"

namespace troupe {
namespace {

using test::engine_actors;

class RestingModels : public ::testing::Test {
 protected:
  void SetUp() override { start(); }
  void TearDown() override { stop(); }

  void start() {
    auto options = w.make_executor_options();
    options.open_backend = [this](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
      return std::make_unique<test::recall_backend>(device);
    };
    executor = spawn_executor(w.system, options);
  }
  void stop() {
    w.stop(caf::actor_cast<caf::actor>(executor));
    w.run_all();
  }

  static message<wire::LoadModel> numbered(std::uint32_t model, const std::string& checkpoint = "nowhere") {
    wire::LoadModelT m;
    test::load_message(checkpoint)->UnPackTo(&m);
    m.model = model;
    return message<wire::LoadModel>::pack(m);
  }
  result<message<wire::ModelLoaded>> load(const message<wire::LoadModel>& m = numbered(0)) {
    result<message<wire::ModelLoaded>> out = fail(error_code::internal, "no answer");
    caf::scoped_actor self{w.system};
    auto response = self->request(executor, caf::infinite, m);
    w.run_all();
    response.receive([&](const message<wire::ModelLoaded>& loaded) { out = loaded; },
                     [&](const caf::error& e) { out = fail(from_caf(e, w.system.render(e))); });
    return out;
  }
  std::uint64_t woken(const message<wire::LoadModel>& m = numbered(0)) {
    const auto loaded = load(m);
    EXPECT_TRUE(loaded.has_value()) << loaded.error().text;
    return loaded ? (*loaded)->woken_bytes() : 0;
  }
  message<wire::ModelUnloaded> end(std::uint32_t model, bool keep_copy) {
    wire::UnloadModelT m;
    m.model = model;
    m.keep_copy = keep_copy;
    message<wire::ModelUnloaded> out;
    caf::scoped_actor self{w.system};
    auto response = self->request(executor, caf::infinite, message<wire::UnloadModel>::pack(m));
    w.run_all();
    response.receive([&](const message<wire::ModelUnloaded>& gone) { out = gone; },
                     [](const caf::error&) { FAIL(); });
    return out;
  }
  message<wire::ModelUnloaded> sleep(std::uint32_t model = 0) { return end(model, true); }
  message<wire::ModelUnloaded> unload(std::uint32_t model = 0) { return end(model, false); }

  // The token behind a prompt; -1: no step was run.
  std::int32_t token(std::uint64_t pool) {
    wire::StepPlanT p;
    p.step = 1;
    p.pool = pool;
    p.incarnation = ++incarnation;
    auto b = std::make_unique<wire::BeginSequenceT>();
    b->sequence = 1;
    b->history = {1, 2, 3};
    b->prompt_tokens = 3;
    b->max_tokens = 5;
    b->sampling = std::make_unique<wire::SamplingT>();
    p.begin.push_back(std::move(b));
    p.grow.emplace_back(1, 0, std::uint8_t{0});
    p.prefill.emplace_back(1, 0, 3);
    std::int32_t found = -1;
    caf::scoped_actor self{w.system};
    self->send(executor, message<wire::StepPlan>::pack(p));
    w.run_all();
    self->receive([&](const message<wire::StepResult>& r) { found = r->sequences()->Get(0)->token(); },
                  caf::after(std::chrono::milliseconds(0)) >> [] {});
    return found;
  }

  engine_actors w;
  test::recall_options device = [] {
    test::recall_options o;
    o.copy_bytes = 800;
    return o;
  }();
  executor_actor executor;
  std::uint64_t incarnation = 0;
};

TEST_F(RestingModels, WakeWithTheSameTokensAndWithoutTheirFiles) {
  const auto loaded = load();
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ((*loaded)->woken_bytes(), 0u);
  const auto pool = (*loaded)->pool();
  const auto expected = token(pool);
  ASSERT_GE(expected, 0);
  const int opened = w.weights_opened;
  const auto asleep = sleep();
  EXPECT_EQ(asleep->freed_bytes(), 1000u);
  EXPECT_EQ(asleep->kept_bytes(), 800u);
  EXPECT_EQ(token(pool), -1) << "the model is unknown while it sleeps";
  EXPECT_EQ(woken(), 800u);
  EXPECT_EQ(w.weights_opened, opened);
  EXPECT_EQ(token(pool), expected);
  EXPECT_EQ(sleep()->kept_bytes(), 800u) << "again";
  EXPECT_EQ(woken(), 800u);
}

TEST_F(RestingModels, GiveTheirCopyBackWhenTheyAreUnloaded) {
  ASSERT_TRUE(load().has_value());
  sleep();
  const auto gone = unload();
  EXPECT_EQ(gone->freed_bytes(), 0u) << "nothing was on the device";
  EXPECT_EQ(gone->dropped_bytes(), 800u);
  EXPECT_EQ(unload()->dropped_bytes(), 0u);
  const int opened = w.weights_opened;
  EXPECT_EQ(woken(), 0u);
  EXPECT_EQ(w.weights_opened, opened + 1);
}

TEST_F(RestingModels, ComeFromTheirFilesAfterARestartOfTheExecutor) {
  ASSERT_TRUE(load().has_value());
  sleep();
  stop();
  start();
  const int opened = w.weights_opened;
  EXPECT_EQ(woken(), 0u);
  EXPECT_EQ(w.weights_opened, opened + 1);
}

TEST_F(RestingModels, SleepOnWhereOthersHaveTheDevicesMemory) {
  bool full = true;
  device.no_room_to_wake = [&full] { return full; };
  stop();
  start();
  ASSERT_TRUE(load().has_value());
  sleep();
  for (int i = 0; i < 2; ++i) {
    const auto refused = load();
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, error_code::no_room);
    EXPECT_EQ(refused.error().text, "model tiny: it cannot wake: others have the device's memory");
  }
  EXPECT_EQ(sleep()->freed_bytes(), 0u) << "as the deployer asks for after a wake that failed";
  full = false;
  EXPECT_EQ(woken(), 800u);
}

TEST_F(RestingModels, AreDestroyedWhereTheBackendKeepsNoCopy) {
  device.copy_bytes = 0;
  stop();
  start();
  ASSERT_TRUE(load().has_value());
  const auto gone = sleep();
  EXPECT_EQ(gone->freed_bytes(), 1000u);
  EXPECT_EQ(gone->kept_bytes(), 0u);
  EXPECT_EQ(gone->not_kept()->str(), "its weights are a mapping of its files");
  const int opened = w.weights_opened;
  EXPECT_EQ(woken(), 0u);
  EXPECT_EQ(w.weights_opened, opened + 1);
}

TEST_F(RestingModels, SleepBesideEachOther) {
  for (std::uint32_t model = 0; model < 3; ++model) ASSERT_TRUE(load(numbered(model)).has_value());
  for (std::uint32_t model = 0; model < 3; ++model) EXPECT_EQ(sleep(model)->kept_bytes(), 800u);
  EXPECT_EQ(unload(1)->dropped_bytes(), 800u);
  EXPECT_EQ(woken(numbered(2)), 800u);
  EXPECT_EQ(woken(numbered(0)), 800u);
  EXPECT_EQ(woken(numbered(1)), 0u);
}

TEST_F(RestingModels, AreNotWokenByARequestForAnother) {
  ASSERT_TRUE(load().has_value());
  sleep();
  const int opened = w.weights_opened;
  EXPECT_EQ(woken(numbered(0, "elsewhere")), 0u);
  EXPECT_EQ(w.weights_opened, opened + 1);
}

}  // namespace
}  // namespace troupe
