#include "actors/gateway/session_table.hpp"

#include <gmock/gmock.h>

namespace troupe::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

session of(const std::string& client, std::uint64_t request, std::uint32_t model = 0, int worker = 0) {
  session s;
  s.client = client;
  s.request = request;
  s.model = {model};
  s.worker = worker;
  return s;
}

TEST(SessionTable, GivesEachRequestAStreamOfItsOwn) {
  session_table table;
  const auto a = (*table.open(of("x", 1)))->stream;
  const auto b = (*table.open(of("y", 1)))->stream;
  EXPECT_NE(a, b);
  EXPECT_EQ(table.find("y", 1)->stream, b);
  table.close(a);
  EXPECT_NE((*table.open(of("x", 1)))->stream, a) << "a stream's number is never given again";
}

TEST(SessionTable, RefusesAnIdThatIsStillOpenAtTheSameClient) {
  session_table table;
  ASSERT_TRUE(table.open(of("x", 7)));
  const auto again = table.open(of("x", 7));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, error_code::invalid_request);
  EXPECT_THAT(again.error().text, HasSubstr("id: 7"));
  EXPECT_TRUE(table.open(of("y", 7)));
}

TEST(SessionTable, RefusesTheIdZero) {
  session_table table;
  EXPECT_EQ(table.open(of("x", 0)).error().code, error_code::invalid_request);
}

TEST(SessionTable, IsOverloadedBeyondItsLimits) {
  session_table table({.open_requests = 3, .open_requests_per_client = 2});
  ASSERT_TRUE(table.open(of("x", 1)));
  ASSERT_TRUE(table.open(of("x", 2)));
  const auto third = table.open(of("x", 3));
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, error_code::overloaded);
  EXPECT_THAT(third.error().text, HasSubstr("2 requests of this client"));
  ASSERT_TRUE(table.open(of("y", 1)));
  const auto fourth = table.open(of("z", 1));
  ASSERT_FALSE(fourth);
  EXPECT_THAT(fourth.error().text, HasSubstr("3 requests are open at this server"));
  table.close(table.find("x", 1)->stream);
  EXPECT_TRUE(table.open(of("z", 1)));
}

TEST(SessionTable, FindsTheStreamsOfAClientAndOfAWorker) {
  session_table table;
  const auto a = (*table.open(of("x", 1, 0, 0)))->stream;
  const auto b = (*table.open(of("x", 2, 0, 1)))->stream;
  const auto c = (*table.open(of("y", 1, 1, 0)))->stream;
  EXPECT_THAT(table.streams_of("x"), UnorderedElementsAre(a, b));
  EXPECT_THAT(table.streams_of(model_id{0}, 0), UnorderedElementsAre(a));
  EXPECT_THAT(table.streams_of(model_id{1}, 0), UnorderedElementsAre(c));
  EXPECT_THAT(table.streams(), UnorderedElementsAre(a, b, c));
  EXPECT_THAT(table.streams_of("nobody"), UnorderedElementsAre());
}

}  // namespace
}  // namespace troupe::gateway
