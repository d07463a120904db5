#include <gtest/gtest.h>

#include "actors/errors.hpp"
#include "actors/executor/executor.hpp"
#include "tests/support/engine_actors.hpp"
#include "tests/support/native_program.hpp"

namespace troupe {
namespace {

using test::engine_actors;

// Asks an executor of its own, beside the world's.
class Executor : public ::testing::Test {
 protected:
  void SetUp() override { executor = spawn_executor(w.system, w.make_executor_options()); }
  void TearDown() override {
    w.stop(caf::actor_cast<caf::actor>(executor));
    w.run_all();
  }

  result<message<wire::ModelLoaded>> load(const message<wire::LoadModel>& m) {
    result<message<wire::ModelLoaded>> out = fail(error_code::internal, "no answer");
    caf::scoped_actor self{w.system};
    auto response = self->request(executor, caf::infinite, m);
    w.run_all();
    response.receive([&](const message<wire::ModelLoaded>& loaded) { out = loaded; },
                     [&](const caf::error& e) { out = fail(from_caf(e, w.system.render(e))); });
    return out;
  }
  std::uint64_t unload(std::uint32_t model = 0) {
    wire::UnloadModelT m;
    m.model = model;
    std::uint64_t freed = ~std::uint64_t{0};
    caf::scoped_actor self{w.system};
    auto response = self->request(executor, caf::infinite, message<wire::UnloadModel>::pack(m));
    w.run_all();
    response.receive([&](const message<wire::ModelUnloaded>& gone) { freed = gone->freed_bytes(); },
                     [](const caf::error&) { FAIL(); });
    return freed;
  }
  // The answer to a plan, or an empty message if there is none.
  message<wire::StepResult> run(const wire::StepPlanT& plan) {
    message<wire::StepResult> out;
    caf::scoped_actor self{w.system};
    self->send(executor, message<wire::StepPlan>::pack(plan));
    w.run_all();
    self->receive([&](const message<wire::StepResult>& r) { out = r; },
                  caf::after(std::chrono::milliseconds(0)) >> [] {});
    return out;
  }
  wire::StepPlanT plan(std::uint64_t pool) {
    wire::StepPlanT p;
    p.step = 1;
    p.pool = pool;
    auto b = std::make_unique<wire::BeginSequenceT>();
    b->sequence = 1;
    b->history = {1, 2, 3};
    b->prompt_tokens = 3;
    b->max_tokens = 5;
    b->sampling = std::make_unique<wire::SamplingT>();
    p.begin.push_back(std::move(b));
    p.grow.emplace_back(1, 0, std::uint8_t{0});
    p.prefill.emplace_back(1, 0, 3);
    return p;
  }

  engine_actors w;
  executor_actor executor;
};

TEST_F(Executor, LoadsAModelAndTellsItsBlocks) {
  const auto loaded = load(test::load_message());
  ASSERT_TRUE(loaded.has_value()) << loaded.error().text;
  EXPECT_EQ((*loaded)->block_tokens(), w.device.block_tokens);
  EXPECT_EQ((*loaded)->blocks(), w.device.blocks);
  EXPECT_EQ((*loaded)->weight_bytes(), 1000u);
  EXPECT_GT((*loaded)->pool(), 0u);
}

TEST_F(Executor, AnswersAtOnceForAModelThatIsLoadedAlready) {
  const int before = w.weights_opened;
  const auto first = load(test::load_message());
  const auto second = load(test::load_message());
  EXPECT_EQ(w.weights_opened, before + 1);
  EXPECT_EQ((*first).bytes().data(), (*second).bytes().data());
  ASSERT_TRUE(load(test::load_message("elsewhere")).has_value());
  EXPECT_EQ(w.weights_opened, before + 2);
}

TEST_F(Executor, GivesBackWhatItUnloads) {
  const int before = w.weights_opened;
  const auto loaded = load(test::load_message());
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(unload(), 1000u);
  EXPECT_FALSE(run(plan((*loaded)->pool()))) << "the model is unknown now";
  EXPECT_EQ(unload(), 0u);
  ASSERT_TRUE(load(test::load_message()).has_value());
  EXPECT_EQ(w.weights_opened, before + 2);
}

TEST_F(Executor, EndsALoadThatIsUnderWayWhenTheModelIsUnloaded) {
  caf::scoped_actor self{w.system};
  auto response = self->request(executor, caf::infinite, test::load_message());
  ASSERT_TRUE(w.run_one());  // the executor has asked its loader
  EXPECT_EQ(unload(), 0u);
  error_code code = error_code::none;
  response.receive([](const message<wire::ModelLoaded>&) { FAIL(); },
                   [&](const caf::error& e) { code = from_caf(e, "").code; });
  EXPECT_EQ(code, error_code::unavailable);
}

TEST_F(Executor, TellsHowMuchRecurrentStateASequenceHas) {
  EXPECT_EQ((*load(test::load_message()))->state_bytes(), 0u);
  auto options = w.make_executor_options();
  auto device = w.device;
  device.recurrent = true;
  options.open_backend = [&](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
    return std::make_unique<test::recall_backend>(device);
  };
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  EXPECT_EQ((*load(test::load_message()))->state_bytes(), 8u);
}

message<wire::LoadModel> load_native(const std::string& module) {
  wire::LoadModelT m;
  m.name = "tiny";
  m.checkpoint = "nowhere";
  m.program = test::tiny_program::bytes(test::make_native_program());
  m.module_ = module;
  return message<wire::LoadModel>::pack(m);
}

TEST_F(Executor, OpensTheModuleWhoseNativeOpsAProgramUses) {
  auto loaded = load(load_native(""));
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text, "model tiny: its Program uses native ops, but no module came with it");
  auto options = w.make_executor_options();
  std::vector<std::string> opened;
  options.open_native_ops = [&](const std::filesystem::path& copy) -> result<program::native_ops> {
    opened.push_back(copy.string());
    return fail(error_code::bad_module, "not this one");
  };
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  loaded = load(load_native("/store/0123.so"));
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text, "not this one");
  EXPECT_EQ(opened, std::vector<std::string>{"/store/0123.so"});
  ASSERT_TRUE(load(test::load_message()).has_value());
  EXPECT_EQ(opened.size(), 1u) << "a Program without native ops needs no module in this process";
}

TEST_F(Executor, AnswersWithAnErrorForAProgramThatIsNone) {
  wire::LoadModelT m;
  m.name = "broken";
  m.checkpoint = "nowhere";
  m.program = {1, 2, 3, 4};
  const auto loaded = load(message<wire::LoadModel>::pack(m));
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, error_code::bad_program);
  EXPECT_TRUE(load(test::load_message()).has_value());
}

TEST_F(Executor, PassesOnWhatIsWrongWithACheckpoint) {
  auto options = w.make_executor_options();
  options.open_weights = nullptr;  // the real one
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  const auto loaded = load(test::load_message("/no/such/folder"));
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, error_code::not_found);
  EXPECT_NE(loaded.error().text.find("/no/such/folder"), std::string::npos);
}

TEST_F(Executor, PassesOnThatTheDeviceCannotBeOpened) {
  auto options = w.make_executor_options();
  options.open_backend = [](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
    return fail(error_code::bad_config, "no such device");
  };
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  const auto loaded = load(test::load_message());
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, error_code::bad_config);
  EXPECT_EQ(loaded.error().text, "no such device");
}

TEST_F(Executor, SendsTheResultToTheSenderOfThePlan) {
  const auto pool = (*load(test::load_message()))->pool();
  const auto answer = run(plan(pool));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->step(), 1u);
  ASSERT_EQ(answer->sequences()->size(), 1u);
  EXPECT_EQ(answer->computed_tokens(), 3u);
}

TEST_F(Executor, DropsPlansForAnotherPoolOrAnUnknownModel) {
  EXPECT_FALSE(run(plan(1)));
  const auto pool = (*load(test::load_message()))->pool();
  EXPECT_FALSE(run(plan(pool - 1)));
  auto other = plan(pool);
  other.model = 9;
  EXPECT_FALSE(run(other));
  EXPECT_TRUE(run(plan(pool)));
}

TEST_F(Executor, DoesNotTouchBlocksForAPlanFromBeforeARestartOfTheCacheManager) {
  const auto pool = (*load(test::load_message()))->pool();
  auto fresh = plan(pool);
  fresh.epoch = 8;
  EXPECT_EQ(run(fresh)->computed_tokens(), 3u);
  auto stale = plan(pool);
  stale.epoch = 7;
  const auto answer = run(stale);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->computed_tokens(), 0u);
  EXPECT_EQ(answer->sequences()->size(), 0u);
}

// The next version continues behind a token that the one before still has on its way.
TEST_F(Executor, CollectsWhatIsOnItsWayBeforeAnotherVersionRuns) {
  auto options = w.make_executor_options();
  test::recall_options device = w.device;
  device.overlaps = true;
  std::vector<std::vector<std::int32_t>> seen;
  device.sees = [&](const ops::step_batch& batch) {
    seen.emplace_back(batch.tokens.begin(), batch.tokens.end());
  };
  options.open_backend = [&](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
    return std::make_unique<test::recall_backend>(device);
  };
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  const auto pool = (*load(test::load_message()))->pool();
  wire::LoadModelT other;
  test::load_message()->UnPackTo(&other);
  other.version = 1;
  ASSERT_TRUE(load(message<wire::LoadModel>::pack(other)).has_value());

  caf::scoped_actor self{w.system};
  self->send(executor, message<wire::StepPlan>::pack(plan(pool)));
  wire::StepPlanT next;
  next.step = 2;
  next.pool = pool;
  next.version = 1;
  next.decode = {1};
  self->send(executor, message<wire::StepPlan>::pack(next));
  w.run_all();
  std::vector<std::int32_t> sampled;
  for (int i = 0; i < 2; ++i)
    self->receive(
        [&](const message<wire::StepResult>& r) { sampled.push_back(r->sequences()->Get(0)->token()); },
        caf::after(std::chrono::milliseconds(0)) >> [] {});
  ASSERT_EQ(sampled.size(), 2u);
  EXPECT_EQ(seen, (std::vector<std::vector<std::int32_t>>{{1, 2, 3}, {sampled[0]}}));
}

TEST_F(Executor, EndsWithTheErrorOfAFailedStep) {
  auto options = w.make_executor_options();
  test::recall_options broken = w.device;
  broken.fails = [] { return true; };
  options.open_backend = [&](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
    return std::make_unique<test::recall_backend>(broken);
  };
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, options);
  const auto pool = (*load(test::load_message()))->pool();
  caf::scoped_actor self{w.system};
  self->monitor(executor);
  self->send(executor, message<wire::StepPlan>::pack(plan(pool)));
  w.run_all();
  bool ended = false;
  self->receive(
      [&](const caf::down_msg& down) {
        ended = true;
        EXPECT_EQ(from_caf(down.reason, {}).code, error_code::internal);
        EXPECT_NE(from_caf(down.reason, {}).text.find("told to fail"), std::string::npos);
      },
      caf::after(std::chrono::milliseconds(0)) >> [] {});
  EXPECT_TRUE(ended);
}

TEST_F(Executor, NumbersItsPoolAboveThatOfItsPredecessor) {
  const auto first = (*load(test::load_message()))->pool();
  w.stop(caf::actor_cast<caf::actor>(executor));
  executor = spawn_executor(w.system, w.make_executor_options());
  EXPECT_GT((*load(test::load_message()))->pool(), first);
}

}  // namespace
}  // namespace troupe
