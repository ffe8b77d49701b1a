# ggufrope: all that src/CMakeLists.txt needs to say is include(ggufrope/ggufrope.cmake), behind the target llama
# SPDX-License-Identifier: MIT

file(GLOB GGUFROPE_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
target_sources(llama PRIVATE ${GGUFROPE_SOURCES})
set_source_files_properties(${GGUFROPE_SOURCES} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)

# the C API goes beside llama.h
include(GNUInstallDirs)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/ggufrope.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
