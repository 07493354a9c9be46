# find_package(campana CONFIG) with CMAKE_PREFIX_PATH at the unpacked archive:
# campana::campana is the shared library, campana::static the static one.

get_filename_component(_campana_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_campana_lib "${_campana_prefix}/lib")

foreach(_campana_name libcampana.so libcampana.dylib campana.dll)
    if(EXISTS "${_campana_lib}/${_campana_name}" AND NOT TARGET campana::campana)
        add_library(campana::campana SHARED IMPORTED)
        set_target_properties(campana::campana PROPERTIES
            IMPORTED_LOCATION "${_campana_lib}/${_campana_name}"
            IMPORTED_IMPLIB "${_campana_lib}/campana.dll.lib"
            INTERFACE_INCLUDE_DIRECTORIES "${_campana_prefix}/include")
    endif()
endforeach()

foreach(_campana_name libcampana.a campana.lib)
    if(EXISTS "${_campana_lib}/${_campana_name}" AND NOT TARGET campana::static)
        add_library(campana::static STATIC IMPORTED)
        set_target_properties(campana::static PROPERTIES
            IMPORTED_LOCATION "${_campana_lib}/${_campana_name}"
            INTERFACE_INCLUDE_DIRECTORIES "${_campana_prefix}/include"
            INTERFACE_LINK_LIBRARIES "@STATIC_LIBS@")
    endif()
endforeach()

if(NOT TARGET campana::campana AND NOT TARGET campana::static)
    set(campana_FOUND FALSE)
    set(campana_NOT_FOUND_MESSAGE "no library of campana in ${_campana_lib}")
endif()
