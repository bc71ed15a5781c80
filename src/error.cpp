// SPDX-License-Identifier: MIT
#include "dirtyring/error.hpp"

#include <cstring>

namespace dirtyring {

std::string Error::message() const {
    std::string text = operation;
    if (!cause.empty()) {
        text += ": " + cause;
    }
    if (code != 0) {
        // The GNU strerror_r may use its buffer or a constant; either way it returns the text to
        // use.
        char buffer[128];
        text += ": ";
        text += strerror_r(code, buffer, sizeof buffer);
    }
    if (!remedy.empty()) {
        text += "; " + remedy;
    }
    return text;
}

}  // namespace dirtyring
