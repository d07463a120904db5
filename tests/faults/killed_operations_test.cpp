// Actors are killed while an operation is under way: it comes to the end that its commit says, and streams of other models notice
// nothing.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "kernel/supervision/supervisor.hpp"
#include "tests/support/demo_server.hpp"
#include "troupe/operations.hpp"

namespace troupe::test {
namespace {

using namespace std::chrono_literals;

void kill(demo_server& running, const std::string& actor) {
  supervision::stop(running->actors().find(actor), caf::exit_reason::kill);
}

// The latest operation, as soon as `wanted` is true for it.
template <class Predicate>
client::operation_info wait_for(const client::operations& server, Predicate wanted) {
  client::operation_info last;
  for (int i = 0; i < 3000; ++i) {
    try {
      const auto all = server.history();
      if (!all.empty() && wanted(last = all.back())) return last;
    } catch (const client::failure& f) {  // the actor that is asked was just killed
      if (f.code() != error_code::unavailable) throw;
    }
    std::this_thread::sleep_for(10ms);
  }
  ADD_FAILURE() << "operation " << last.operation << " stays " << last.state;
  return last;
}

bool is_over(const client::operation_info& o) {
  return o.state == "done" || o.state == "refused" || o.state == "undone";
}

class KilledWhileUnloading : public testing::TestWithParam<const char*> {};

TEST_P(KilledWhileUnloading, CarriesThroughWhatIsCommitted) {
  demo_server running([](server_options& o) {
    o.config.models = {{.name = "fox", .path = demo_model}, {.name = "owl", .path = demo_model}};
  });
  const auto connection = running.connect();
  const client::operations server(running.connect());
  auto request = long_request(30'000);
  request.model = "owl";
  auto stream = connection.generate(request);
  ASSERT_TRUE(stream.next(patience));
  std::thread operator_thread([&running] {
    try {
      client::operations(running.connect()).unload("owl");
    } catch (const client::failure& f) {  // of a deployer or gateway that was killed
      EXPECT_EQ(f.code(), error_code::unavailable) << f.what();
    }
  });
  wait_for(server, [](const auto& o) { return o.state == "retiring"; });
  kill(running, GetParam());
  stream.cancel();
  operator_thread.join();
  const auto end = wait_for(server, is_over);
  EXPECT_EQ(end.state, "done") << end.reason;
  EXPECT_EQ(end.new_generation, 0u);
  EXPECT_EQ(server.load(demo_model, "owl").info.new_generation, 2u) << "nothing is left of the one before";
  EXPECT_FALSE(read_all(*std::make_unique<client::stream>(connection.generate([] {
                 auto again = long_request(5);
                 again.model = "owl";
                 return again;
               }())))
                   .empty());
}

INSTANTIATE_TEST_SUITE_P(Actor, KilledWhileUnloading,
                         testing::Values("deployer", "gateway", "executor", "cache_manager"));

TEST(KilledWhileLoading, LeavesTheNameServedOrFree) {
  demo_server running;
  const client::operations server(running.connect());
  for (int i = 0; i < 12; ++i) {
    std::thread operator_thread([&running] {
      try {
        client::operations(running.connect()).load(demo_model, "owl");
      } catch (const client::failure& f) {
        EXPECT_EQ(f.code(), error_code::unavailable) << f.what();
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(5 * i));
    kill(running, i % 2 == 0 ? "deployer" : "executor");
    operator_thread.join();
    const auto end = wait_for(server, is_over);
    const bool served = running.connect().models().size() == 2;
    EXPECT_EQ(served, end.new_generation != 0) << end.state << ": " << end.reason;
    EXPECT_EQ(end.state == "done", served);
    if (served) server.unload("owl");
    std::this_thread::sleep_for(100ms);
  }
}

}  // namespace
}  // namespace troupe::test
