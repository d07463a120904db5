// A server's models as a table and as JSON.
#pragma once

#include <boost/json/array.hpp>
#include <string>
#include <troupe/client.hpp>
#include <vector>

namespace troupe::cli {

std::string models_text(const std::vector<client::model_info>& models);
boost::json::array models_json(const std::vector<client::model_info>& models);

}  // namespace troupe::cli
