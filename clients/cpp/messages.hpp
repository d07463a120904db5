// Between the structs of client.hpp and the tables of the protocol.
#pragma once

#include "link.hpp"

namespace troupe::client {

flatbuffers::DetachedBuffer hello_request(std::uint64_t id, const std::string& name);
flatbuffers::DetachedBuffer generate_message(std::uint64_t id, const generate_request& request);
flatbuffers::DetachedBuffer cancel_request(std::uint64_t id, std::uint64_t target);
flatbuffers::DetachedBuffer tokenize_request(std::uint64_t id, const prompt_variant& prompt,
                                             std::string_view model);
flatbuffers::DetachedBuffer detokenize_request(std::uint64_t id, const std::vector<std::int32_t>& ids,
                                               bool skip_special_tokens, std::string_view model);
flatbuffers::DetachedBuffer models_request(std::uint64_t id);
flatbuffers::DetachedBuffer status_request(std::uint64_t id);

chunk read_chunk(const wire::Chunk& from);
final_message read_final(const wire::Final& from);
model_info read_model(const wire::ModelInfo& from);
operation_info read_operation(const wire::OperationInfo& from);
server_status read_status(const wire::Status& from);
failure read_error(const wire::Error& from);

}  // namespace troupe::client
