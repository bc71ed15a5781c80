// SPDX-License-Identifier: MIT
//
// A file laid out as KVM's statistics are (api.rst 4.133).
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "fake_kvm.hpp"

namespace dirtyring {

struct FakeStatistic {
    std::string name;
    std::uint32_t flags = KVM_STATS_TYPE_CUMULATIVE;
    std::int16_t exponent = 0;
    std::uint32_t bucket_size = 0;
    std::vector<std::uint64_t> values;
};

constexpr std::uint32_t fake_name_bytes = 16;
constexpr std::uint32_t fake_id_offset = 24;
constexpr std::uint32_t fake_descriptors_offset = 40;

/// The file's bytes. The data comes last.
inline std::vector<std::byte> stats_file(const std::string& id,
                                         const std::vector<FakeStatistic>& statistics) {
    std::vector<std::byte> file;
    const auto append = [&file](const void* from, std::size_t bytes) {
        const auto* begin = static_cast<const std::byte*>(from);
        file.insert(file.end(), begin, begin + bytes);
    };
    const auto append_name = [&](std::string name) {
        name.resize(fake_name_bytes);
        append(name.data(), name.size());
    };
    const auto count = static_cast<std::uint32_t>(statistics.size());
    const std::uint32_t data_offset =
        fake_descriptors_offset +
        count * static_cast<std::uint32_t>(sizeof(kvm::abi::StatsDescriptor) + fake_name_bytes);
    const kvm_stats_header header{
        0, fake_name_bytes, count, fake_id_offset, fake_descriptors_offset, data_offset};
    append(&header, sizeof header);
    append_name(id);
    std::uint32_t offset = 0;
    for (const FakeStatistic& statistic : statistics) {
        const kvm::abi::StatsDescriptor descriptor{
            statistic.flags, statistic.exponent,
            static_cast<std::uint16_t>(statistic.values.size()), offset, statistic.bucket_size};
        append(&descriptor, sizeof descriptor);
        append_name(statistic.name);
        offset += static_cast<std::uint32_t>(statistic.values.size() * sizeof(std::uint64_t));
    }
    for (const FakeStatistic& statistic : statistics) {
        append(statistic.values.data(), statistic.values.size() * sizeof(std::uint64_t));
    }
    return file;
}

}  // namespace dirtyring
