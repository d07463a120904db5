#include "actors/gateway/request_reader.hpp"

#include <gmock/gmock.h>

#include <random>

#include "tests/actors/gateway/raw_client.hpp"

namespace troupe::gateway::testing {
namespace {

using ::testing::HasSubstr;

TEST(RequestReader, TakesAValidRequest) {
  const auto request = read_request(request_bytes(9, generate_ids({1, 2})));
  ASSERT_TRUE(request);
  EXPECT_EQ((*request)->id(), 9U);
}

TEST(RequestReader, AnswersGarbageWithInvalidFrame) {
  const std::vector<std::uint8_t> garbage(64, 0xAB);
  const auto request = read_request(garbage);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().why.code, error_code::invalid_frame);
  EXPECT_EQ(request.error().id, 0U);
}

TEST(RequestReader, AnswersEveryTruncationOfARequest) {
  const auto whole = request_bytes(9, generate_ids({1, 2, 3, 4}));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto request = read_request({whole.data(), n});
    if (!request) {
      EXPECT_THAT(request.error().why.code,
                  ::testing::AnyOf(error_code::invalid_frame, error_code::unsupported_version))
          << n;
    }
  }
  EXPECT_FALSE(read_request({whole.data(), whole.size() / 2}));
}

TEST(RequestReader, NamesTheVersionsItSpeaksUnderTheRequestsId) {
  const auto request = read_request(request_bytes(9, generate_ids({1}), 7));
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().id, 9U);
  EXPECT_EQ(request.error().why.code, error_code::unsupported_version);
  EXPECT_THAT(request.error().why.text,
              HasSubstr("version 7 of the protocol is not spoken here, only version 1"));
}

TEST(RequestReader, ReadsTheIdOfARequestWhoseBodyIsBroken) {
  flatbuffers::FlatBufferBuilder b;
  // A ClientRequest without its required body.
  auto head = wire::CreateRequestHead(b, protocol_version, 77);
  b.Finish(head);
  const auto request = read_request({b.GetBufferPointer(), b.GetSize()});
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().id, 77U);
  EXPECT_EQ(request.error().why.code, error_code::invalid_frame);
}

TEST(RequestReader, RefusesATypeOfRequestThatItDoesNotKnow) {
  flatbuffers::FlatBufferBuilder b;
  auto body = wire::CreateListModels(b);
  b.Finish(
      wire::CreateClientRequest(b, protocol_version, 5, static_cast<wire::RequestBody>(99), body.Union()));
  const auto request = read_request({b.GetBufferPointer(), b.GetSize()});
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().id, 5U);
  EXPECT_EQ(request.error().why.code, error_code::invalid_request);
  EXPECT_THAT(request.error().why.text, HasSubstr("request type 99"));
}

TEST(RequestReader, RefusesTheIdZero) {
  const auto request = read_request(request_bytes(0, generate_ids({1})));
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().why.code, error_code::invalid_request);
}

TEST(RequestReader, TakesAHelloOfAnyVersion) {
  EXPECT_TRUE(read_request(request_bytes(1, wire::HelloT(), 9)));
}

TEST(Hello, IsWelcomeIfTheVersionIsInItsRange) {
  flatbuffers::FlatBufferBuilder b;
  const auto hello = message<wire::Hello>::finish(b, wire::CreateHello(b, 1, 5));
  const auto reply = answer_hello(3, *hello, "troupe 1");
  ASSERT_TRUE(reply->body_as_Welcome());
  EXPECT_EQ(reply->body_as_Welcome()->version(), 1);
  EXPECT_EQ(reply->body_as_Welcome()->server()->str(), "troupe 1");
}

TEST(Hello, IsToldTheVersionsIfThereIsNoneInCommon) {
  flatbuffers::FlatBufferBuilder b;
  const auto hello = message<wire::Hello>::finish(b, wire::CreateHello(b, 2, 5));
  const auto reply = answer_hello(3, *hello, "troupe 1");
  ASSERT_TRUE(reply->body_as_Error());
  EXPECT_EQ(reply->body_as_Error()->code(), error_code::unsupported_version);
  EXPECT_THAT(reply->body_as_Error()->text()->str(), HasSubstr("versions 2 to 5"));
}

TEST(Quotable, KeepsGoodWords) {
  EXPECT_EQ(quotable("mixtral-8x7b \xC3\xA9"), "mixtral-8x7b \xC3\xA9");
}

TEST(Quotable, MendsWhatIsNotUtf8AndClips) {
  EXPECT_EQ(quotable("a\xC3"
                     "b\n\x1b[31m"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\xEF\xBF\xBD[31m");
  EXPECT_EQ(quotable(std::string(99, 'x') + "\xC3\xA9"), std::string(99, 'x') + "...");
}

}  // namespace
}  // namespace troupe::gateway::testing
