# SPDX-License-Identifier: MIT
set(compile ${COMPILER} -std=c++20 -fsyntax-only -Werror=unused-result -I${INCLUDE} ${SOURCE})
execute_process(COMMAND ${compile} RESULT_VARIABLE result ERROR_VARIABLE errors)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the right use of it must compile:\n${errors}")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C ${compile} -DMISUSE RESULT_VARIABLE result
                ERROR_VARIABLE errors)
if(result EQUAL 0)
  message(FATAL_ERROR "the misuse compiles")
endif()
if(NOT errors MATCHES "${MESSAGE}")
  message(FATAL_ERROR "the misuse fails for another reason than \"${MESSAGE}\":\n${errors}")
endif()
