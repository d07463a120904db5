// The allowed ranges of what a client may ask of the sampler and of the end of generation.
#pragma once

#include "actors/tokenizer/admission.hpp"

namespace troupe::text {

// The request's Sampling, or what the checkpoint's generation_config.json recommends if it has none: its
// do_sample = false means greedy, keys that it lacks are neutral. The seed is not touched. Error:
// invalid_request.
result<wire::SamplingT> sampling_of(const text_model& model, const wire::Sampling* asked,
                                    const admission_limits& limits);

// Stop strings and ids. Error: invalid_request.
result<void> check_stops(const text_model& model, const wire::StopConditions& stop,
                         const admission_limits& limits);

// Error: invalid_request naming `field` and the first id that is not below the vocabulary.
result<void> check_ids(const text_model& model, const flatbuffers::Vector<std::int32_t>& ids,
                       std::string_view field);

}  // namespace troupe::text
