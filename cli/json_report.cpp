// SPDX-License-Identifier: MIT
#include "json_report.hpp"

#include "dirtyring/memory.hpp"

namespace dirtyring::cli {

namespace {

using Json = nlohmann::ordered_json;

std::string_view word(Ending ending) {
    switch (ending) {
        case Ending::succeeded:
            return "succeeded";
        case Ending::stopped:
            return "stopped";
        case Ending::failed:
            return "failed";
    }
    return "unknown";
}

Json figures(const VcpuFigures& vcpu, bool rings) {
    Json json{{"rounds", vcpu.rounds}, {"page_writes", vcpu.page_writes}};
    if (rings) {
        json["entries"] = vcpu.entries;
        json["distinct_pages"] = vcpu.distinct;
        json["ring_full_exits"] = vcpu.full_exits;
        json["overruns"] = vcpu.overruns;
        json["lost_entries"] = vcpu.lost;
        json["peak_fill"] = vcpu.peak_fill;
    }
    return json;
}

Json figures(const std::vector<VcpuFigures>& vcpus, bool rings) {
    Json json = Json::array();
    for (const VcpuFigures& vcpu : vcpus) {
        json.push_back(figures(vcpu, rings));
    }
    return json;
}

}  // namespace

Json document_of(std::string_view format, const Header& header) {
    Json document{{"format", format},
                  {"version", 1},
                  {"guest", header.guest},
                  {"params", Json::object()},
                  {"vcpus", header.vcpus},
                  {"memory_bytes", header.pages() * page_size},
                  {"page_bytes", page_size},
                  {"track", name(header.track)},
                  {"interval_ns", header.interval_ns}};
    if (header.track == Track::ring) {
        document["ring_entries"] = header.ring_entries;
    }
    for (const auto& [name, value] : header.params) {
        document["params"][name] = value;
    }
    return document;
}

Json json_of(const Outcome& outcome) {
    return {{"result", word(outcome.ending)},
            {"reason", outcome.reason},
            {"vcpus", outcome.vcpus},
            {"console", outcome.console}};
}

JsonReport::JsonReport(const Header& header)
    : rings_(header.track == Track::ring), document_(document_of("dirtyring run", header)) {}

void JsonReport::add(const Interval& interval, std::uint64_t distinct_so_far) {
    intervals_.push_back({{"begin_ns", interval.begin_ns},
                          {"end_ns", interval.end_ns},
                          {"distinct_pages", interval.pages()},
                          {"distinct_pages_so_far", distinct_so_far},
                          {"everything", interval.everything},
                          {"harvest_ns", interval.harvest_ns},
                          {"reset_ns", interval.reset_ns},
                          {"vcpus", figures(interval.vcpus, rings_)}});
}

std::string JsonReport::finish(const Totals& totals, const Outcome& outcome, const Live* live) {
    document_["outcome"] = json_of(outcome);
    Json sums{{"duration_ns", totals.duration_ns()},
              {"intervals", totals.intervals()},
              {"intervals_everything", totals.everything()},
              {"distinct_pages", totals.distinct()},
              {"page_changes", totals.page_changes()},
              {"harvest_ns", totals.harvest_ns()},
              {"reset_ns", totals.reset_ns()}};
    sums.update(figures(together(totals.vcpus()), rings_));
    sums["distinct_pages"] = totals.distinct();
    sums["vcpus"] = figures(totals.vcpus(), rings_);
    document_["totals"] = std::move(sums);
    if (live != nullptr) {
        document_["live"] = {{"limit", live->limit},
                             {"statistics", Json::parse(to_json(live->statistics))}};
    }
    document_["intervals"] = std::move(intervals_);
    return dump(document_);
}

std::string dump(const Json& document) {
    return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dirtyring::cli
