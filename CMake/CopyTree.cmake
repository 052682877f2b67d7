# cmake -DSOURCE=FOLDER -DDESTINATION=FOLDER [-DNAMES=a,b] -P CopyTree.cmake
# Makes DESTINATION a copy of SOURCE (or of the named parts of it); what Python or a training left
# there stays behind, and what is gone from SOURCE goes.
if(NAMES)
  string(REPLACE "," ";" NAMES "${NAMES}")
else()
  set(NAMES .)
endif()
foreach(_name IN LISTS NAMES)
  get_filename_component(_target "${DESTINATION}/${_name}" ABSOLUTE)
  get_filename_component(_source "${SOURCE}/${_name}" ABSOLUTE)
  if(IS_DIRECTORY "${_source}")
    file(REMOVE_RECURSE "${_target}")
    file(COPY "${_source}/" DESTINATION "${_target}"
      PATTERN "__pycache__" EXCLUDE
      PATTERN "*.py[co]" EXCLUDE
      PATTERN "*.run" EXCLUDE
      )
  else()
    file(COPY "${_source}" DESTINATION "${DESTINATION}")
  endif()
endforeach()
